/** What whoever carries could do besides: from the roles alone. */
import { describe, expect, it } from 'vitest';
import type { Delegation, RootMetadata, TargetsMetadata } from '../../../core/trust/metadata.ts';
import { carrierReach } from '../../../core/trust/reach.ts';

const keys = (...keyids: string[]) => ({ keyids, threshold: 1 });
const delegation = (
  name: string,
  prefix: string,
  role: { keyids: string[]; threshold: number },
): Delegation => ({
  name,
  ...role,
  paths: [`${prefix}*`],
  terminating: true,
});
const metadata = (...roles: Delegation[]): TargetsMetadata =>
  ({ delegations: { keys: new Map(), roles } }) as unknown as TargetsMetadata;
const rootOf = (
  root: { keyids: string[]; threshold: number },
  targets: { keyids: string[]; threshold: number },
): RootMetadata =>
  ({
    roles: { root, targets, snapshot: keys('carrier'), timestamp: keys('carrier') },
  }) as unknown as RootMetadata;

/** acme has a namespace, and has handed a part of it on to another publisher. */
const collection = (
  root: { keyids: string[]; threshold: number },
  targets: { keyids: string[]; threshold: number },
  acme = keys('acme'),
  images = keys('carrier'),
) => ({
  root: rootOf(root, targets),
  targets: metadata(
    delegation('bundles', '_bundle/x/', keys('carrier')),
    delegation('acme', 'docker.io/acme/', acme),
    delegation('images', '', images),
  ),
  delegated: new Map([
    ['bundles', metadata()],
    ['acme', metadata(delegation('deep', 'docker.io/acme/deep/', keys('deep')))],
    ['deep', metadata()],
    ['images', metadata()],
  ]),
});

const signs = (reach: ReturnType<typeof carrierReach>): string[] =>
  reach.namespaces.filter(({ canSign }) => canSign).map(({ role }) => role);

describe('the reach of the carrier', () => {
  it('is everything where one key holds root', () => {
    const reach = carrierReach(collection(keys('carrier', 'recovery'), keys('officer')));
    expect(reach).toMatchObject({ root: true, targets: false });
    expect(signs(reach)).toEqual(['acme', 'images', 'deep']);
  });

  it('is every namespace, also one that was handed on, where the key holds targets', () => {
    const reach = carrierReach(collection(keys('officer'), keys('carrier')));
    expect(reach).toMatchObject({ root: false, targets: true });
    expect(signs(reach)).toEqual(['acme', 'images', 'deep']);
  });

  it('ends at the namespaces where others hold root and targets', () => {
    const reach = carrierReach(collection(keys('officer'), keys('officer')));
    expect(reach).toMatchObject({ root: false, targets: false });
    expect(signs(reach)).toEqual(['images']);
    expect(reach.namespaces.map(({ prefix }) => prefix)).toEqual([
      'docker.io/acme/',
      '',
      'docker.io/acme/deep/',
    ]);
  });

  it('ends where a threshold wants somebody else too', () => {
    const two = { keyids: ['carrier', 'officer'], threshold: 2 };
    expect(signs(carrierReach(collection(two, two, keys('acme'), two)))).toEqual([]);
    expect(signs(carrierReach(collection(two, two, keys('acme', 'carrier'))))).toEqual([
      'acme',
      'images',
      'deep',
    ]);
  });
});
