/** A collection and a gate that live through several bundles. */
import path from 'node:path';
import { isSealiftError } from '../../core/errors.ts';
import type { ExportResult, ImportResult } from '../../core/results.ts';
import {
  type RenewOptions,
  type RotateOptions,
  renewRoles,
  rotateKeys,
  withdrawNames,
} from '../../core/trust-ops/index.ts';
import { type FixtureManifest, singleImage } from '../../fixtures/images.ts';
import {
  DAY,
  makeWorld,
  START,
  TEST_PASSPHRASE,
  type World,
  type WorldOptions,
} from '../../fixtures/world.ts';

export const at = (days: number): Date => new Date(START.getTime() + days * DAY);
export const NEW_PASSPHRASE = 'another passphrase, of the new key';
export const ALPINE = 'docker.io/library/alpine:3.20';
export const NGINX = 'docker.io/library/nginx:1.29';

export interface Story {
  readonly world: World;
  readonly recoveryKey: NonNullable<RotateOptions['recoveryKey']>;
  /** Exports on a day; without images a bundle of metadata only. */
  bundle(
    day: number,
    images?: Readonly<Record<string, FixtureManifest>>,
    from?: World,
  ): Promise<ExportResult>;
  import(bundle: ExportResult, day: number): Promise<ImportResult>;
  renew(day: number, options?: Partial<RenewOptions>): ReturnType<typeof renewRoles>;
  rotate(day: number, options?: Partial<RotateOptions>): ReturnType<typeof rotateKeys>;
  withdraw(day: number, names: readonly string[], reason?: string): ReturnType<typeof withdrawNames>;
}

/** Passphrases of whichever key is asked for: the first that has not been tried. */
const passphrase = async (): Promise<string> => TEST_PASSPHRASE;

export async function tell(options: WorldOptions = {}): Promise<Story> {
  const world = await makeWorld(options);
  const common = { collection: world.collection, passphrase, pid: process.pid };
  let bundles = 0;
  return {
    world,
    recoveryKey: { file: path.join(world.directory, 'recovery-key'), passphrase },
    bundle(day, images = {}, from = world) {
      bundles += 1;
      return from.export(images, {
        now: at(day),
        file: path.join(from.directory, `story-${bundles}.tar`),
        metadataOnly: Object.keys(images).length === 0,
      });
    },
    import: (bundle, day) => world.import(bundle.output, { now: at(day) }),
    renew: (day, more = {}) => renewRoles({ ...common, roles: [], ...more }, world.context(at(day))),
    rotate: (day, more = {}) =>
      rotateKeys(
        { ...common, roles: [], newPassphrase: passphrase, stolen: false, rsaBits: 2048, ...more },
        world.context(at(day)),
      ),
    withdraw: (day, names, reason = 'it has a hole') =>
      withdrawNames({ ...common, names, reason }, world.context(at(day))),
  };
}

/** The code of the refusal, or `accepted`. */
export async function codeOf(action: Promise<unknown>): Promise<string> {
  try {
    await action;
    return 'accepted';
  } catch (error) {
    if (isSealiftError(error)) return error.code;
    throw error;
  }
}

export const image = (label: string): FixtureManifest => singleImage(label);
