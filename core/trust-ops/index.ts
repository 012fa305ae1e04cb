/** The operations behind `sealift trust`, loaded together. */

export { resolveTargets } from '../export.ts';
export { type AddOptions, addNames, bindName } from './add.ts';
export type { KeyFile, StagedRoles, TrustOptions } from './common.ts';
export { type ContinueOptions, type ContinueResult, continueCollection } from './continue.ts';
export {
  changePassphrase,
  exportKey,
  generateKey,
  type HeldKey,
  importKey,
  type KeyEntry,
  type KeyListing,
  listKeys,
  type RefreshedKey,
  refreshKey,
  retireKey,
} from './keys.ts';
export {
  type AuditReport,
  auditGate,
  type ClockReport,
  gateClock,
  listNames,
  lookUpName,
  type NameLookup,
  type TrustListing,
} from './look.ts';
export {
  addDelegation,
  changeRoleKeys,
  type DelegationListing,
  type DelegationOptions,
  listDelegations,
  type PublicKey,
  type PurgeOptions,
  purgeKey,
  type RoleKeysOptions,
  readPublicKey,
  removeDelegation,
} from './rekey.ts';
export { type RenewOptions, renewRoles } from './renew.ts';
export {
  type MissingSignatures,
  type Pending,
  type PublishedRequest,
  publishRequest,
  type RequestSummary,
  signRequest,
} from './request.ts';
export { type RotateOptions, type RotateResult, rotateKeys } from './rotate.ts';
export { listStaged, type ResetResult, resetStaged, type StagedListing } from './staged.ts';
export { type WithdrawOptions, type WithdrawResult, withdrawNames } from './withdraw.ts';
export { type WitnessedRole, type WitnessOptions, type WitnessResult, witnessRoles } from './witness.ts';
