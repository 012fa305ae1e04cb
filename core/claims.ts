/** What a bundle says of itself. */
import { parseBundleManifest } from './bundle/manifest.ts';
import { openBundleAt } from './bundle/open.ts';
import type { BundleHead } from './bundle/reader.ts';
import type { Context } from './context.ts';
import { Checklist, claimedCollectionId, judgeTrust, type TrustJudgement } from './judge.ts';

/**
 * A bundle judged by its own first root and at the time it claims: everything must fit together, so that what is
 * shown is what verify would speak about; whether to believe it is another question. With an anchor it is believed as
 * far as that goes: by that root, and at that time.
 * @throws SealiftError `bundle-not-found` and what a malformed bundle gives; with an anchor what verify gives
 */
export async function readClaims(
  location: string,
  context: Context,
  anchor?: { readonly fingerprint: string; readonly now: Date },
): Promise<TrustJudgement & { readonly head: BundleHead }> {
  const reader = await openBundleAt({ path: location }, context);
  try {
    const claimed = parseBundleManifest(reader.head.manifest, context.limits);
    const quiet: Context = {
      ...context,
      now: anchor?.now ?? new Date(claimed.created),
      emit: () => undefined,
    };
    const judgement = await judgeTrust(
      reader,
      new Checklist(quiet),
      {
        anchor: {
          kind: 'fingerprint',
          fingerprint: anchor?.fingerprint ?? claimedCollectionId(reader.head, context),
        },
        overrides: { allowClockJump: anchor === undefined },
      },
      quiet,
    );
    return { ...judgement, head: reader.head };
  } finally {
    await reader.close();
  }
}
