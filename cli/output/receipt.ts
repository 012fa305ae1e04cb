/** Receipts as text: what leaves the sealed side, in words, before it leaves. */
import { inert } from '../../core/errors.ts';
import type { PinGateResult, ReceiptResult, ReceiptSummary } from '../../core/results.ts';
import type { TextView } from '../command.ts';
import {
  formatDistance,
  formatSize,
  formatTime,
  groupedFingerprint,
  plural,
  shellQuote,
  table,
} from './format.ts';

function rows({ receipt }: { readonly receipt: ReceiptSummary }, { now }: TextView): readonly string[] {
  const { accepted, request, policy, pin, root } = receipt;
  return table(
    [
      ['receipt', `number ${receipt.number} of this gate`],
      ['collection', `${inert(receipt.collection.name)}  ${receipt.collection.id}`],
      ['made', formatTime(receipt.created)],
      ['expires', `${formatTime(receipt.expires)} (${formatDistance(receipt.expires, now)})`],
      accepted === undefined
        ? ['accepted', 'no bundle yet']
        : ['accepted', `version ${accepted.version}, sealift.json ${accepted.manifest}`],
      [
        'in the store',
        `${plural(receipt.images, 'image')}, ${plural(receipt.blobs, 'layer')}, as keyed hashes`,
      ],
      ['pinned', `root ${pin.rootVersion}, ${pin.fingerprint}`],
      ['names', pin.scopes.includes('*') ? 'every name' : pin.scopes.map((scope) => inert(scope)).join(', ')],
      ['trusted now', `root ${root.version}, ${root.fingerprint}`],
      ['policy', policy === undefined ? 'none is set' : `sha256 ${policy}`],
      ['audit log', `head ${receipt.auditHead}, before this receipt was entered`],
      ...(request === undefined
        ? []
        : [
            [
              'requested',
              `what version ${request.version} lacks: ${plural(request.blobs, 'layer')} (${formatSize(request.bytes)}) of ${plural(request.images, 'image')}`,
            ],
          ]),
    ],
    '  ',
  );
}

function importLines({ imports }: ReceiptSummary, { style }: TextView): readonly string[] {
  if (imports.length === 0) return [];
  return [
    '',
    style.bold('Imports'),
    ...table(
      imports.map(({ version, at, images, admitted, refused }) => [
        `version ${version}`,
        formatTime(at),
        `${admitted} of ${plural(images, 'image')} in the store${refused === 0 ? '' : `, ${refused} refused`}`,
      ]),
      '  ',
    ),
  ];
}

function keyLines(receipt: ReceiptSummary, { style }: TextView): readonly string[] {
  return [
    '',
    style.bold("The gate's key"),
    '  the other side pins it once; read it out over the phone, it must not come with the receipt:',
    ...groupedFingerprint(receipt.gate).map((group) => `    ${style.bold(group)}`),
  ];
}

/** What `inspect` shows of a receipt. */
export function receiptText(location: string, receipt: ReceiptSummary, view: TextView): string {
  const { style } = view;
  return [
    `${style.bold(inert(location, 4096))}  ${receipt.request === undefined ? 'receipt' : 'request'}`,
    `${style.attention} ${style.warn('as its own key signed it')}: compare the key with the one that was read out`,
    ...rows({ receipt }, view),
    ...importLines(receipt, view),
    ...keyLines(receipt, view),
    '',
    style.dim(
      'Nothing else is in it: no name, no digest. Who has the images can match the keyed hashes, nobody can read them.',
    ),
  ]
    .map((line) => line.trimEnd())
    .join('\n');
}

export function receiptMadeText(result: ReceiptResult, view: TextView): string {
  const { style } = view;
  const { output, code, receipt } = result;
  const file = output === undefined || output === '-' ? 'RECEIPT' : inert(output, 4096);
  const written =
    output === undefined
      ? 'nothing written; the code is the receipt'
      : output === '-'
        ? 'to standard output'
        : file;
  return [
    `${style.pass} ${style.good('receipt')}  ${style.bold(written)}${output === undefined ? '' : `  ${formatSize(result.size)}`}`,
    ...rows({ receipt }, view),
    ...importLines(receipt, view),
    ...(code === undefined
      ? []
      : ['', style.bold('On paper'), `    ${style.bold(code)}`, `  sealift export --since ${code} …`]),
    ...(output === undefined
      ? []
      : [
          ...keyLines(receipt, view),
          '',
          style.bold('On the other side'),
          '  the first time:',
          `    sealift trust pin-gate ${shellQuote(file)} --fingerprint ${receipt.gate}`,
          '  every time:',
          `    sealift export --since ${shellQuote(file)} …`,
          '',
          style.dim(`sealift inspect ${shellQuote(file)} shows all that is in it.`),
        ]),
  ]
    .map((line) => line.trimEnd())
    .join('\n');
}

export function gatePinnedText(result: PinGateResult, { style }: TextView): string {
  const word = result.alreadyPinned ? 'pinned before' : 'pinned';
  return [
    `${style.pass} ${style.good(word)}  receipts of this gate are taken from now on`,
    `  gate        ${result.gate}`,
    `  collection  ${result.collectionId}`,
  ].join('\n');
}
