/**
 * The connected side's collection: a directory that is a TUF repository, with its keys.
 *
 *     collection.json          format version, id, name, kind of keys, when it was made; canonical JSON
 *     counter                  the last version that was given out; a number is never given twice
 *     metadata/                every root by number, timestamp.json, and VERSION.ROLE.json
 *     certificates/FPR.pgp     OpenPGP certificates, binary
 *     keys/                    encrypted secret keys: FPR.asc or KEYID.pem; FPR.gpg is a note that gpg holds it
 *     revocation/FPR.asc       revocation certificates, to be published when a key is lost
 *     staged.json, staged/     what was signed by hand and waits for the next bundle (staging.ts)
 *     .lock
 *
 * The recovery key lies in a file of its own, elsewhere. A new collection is complete: targets, bundles, images,
 * snapshot and timestamp exist with version 1, so that the first bundle has version 2.
 */
export {
  assertFree,
  type CreateCollectionOptions,
  createCollection,
  placeCollection,
} from './collection/create.ts';
export {
  findSecretFile,
  heldByGpg,
  type MadeKey,
  makeKey,
  readHeld,
  requireSigners,
  secretFile,
  secretNames,
  takeGpgKey,
} from './collection/keys.ts';
export { lockCollection, openCollection } from './collection/open.ts';
export {
  DEFAULT_LIFETIMES,
  envelope,
  signMetadata,
  signTargets,
  type TargetsChange,
} from './collection/sign.ts';
export {
  type CollectionState,
  keysOfRole,
  leavingKeys,
  metadataOf,
  readState,
  rolesByKey,
  rulerOf,
  stateAfter,
} from './collection/state.ts';
export type {
  Collection,
  FinishedCollection,
  FinishedFile,
  ImageTarget,
  RoleChange,
  StagedCollection,
  StagedFile,
  StageOptions,
} from './collection/types.ts';
