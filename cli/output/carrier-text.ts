/** Who could sign what, in words. */
import { inert } from '../../core/errors.ts';
import type { CarrierReach } from '../../core/results.ts';
import type { Style } from './style.ts';

/**
 * What the keys that sign each bundle could do besides; with `namespacesOnly` nothing where nobody has a namespace,
 * since there is nothing that could be kept from them.
 */
export function carrierLines(
  carrier: CarrierReach | undefined,
  style: Style,
  namespacesOnly = false,
): readonly string[] {
  const namespaces = carrier?.namespaces.filter(({ role }) => role !== 'images') ?? [];
  if (carrier === undefined || (namespacesOnly && namespaces.length === 0)) return [];
  const holds = [carrier.root ? 'root' : undefined, carrier.targets ? 'targets' : undefined]
    .filter((role) => role !== undefined)
    .join(' and ');
  const others = carrier.namespaces.find(({ role }) => role === 'images');
  return [
    '',
    style.bold('Who signs the bundles'),
    holds === ''
      ? '  holds neither root nor targets, and can put no key in the place of another'
      : `  ${style.attention} holds ${holds} too: whoever has that key can put any key in the place of ${carrier.root ? 'another' : "a namespace's"}`,
    ...namespaces.map(({ role, prefix, canSign }) =>
      canSign
        ? `  ${style.attention} could sign ${inert(prefix)}… in the place of ${inert(role)}`
        : `  ${style.pass} cannot sign ${inert(prefix)}…: only ${inert(role)} can`,
    ),
    ...(others && !others.canSign ? [`  ${style.pass} cannot sign any other name: only images can`] : []),
  ];
}
