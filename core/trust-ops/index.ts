/** The operations behind `sealift trust`, loaded together. */
export type { KeyFile, StagedRoles, TrustOptions } from './common.ts';
export {
  type AuditReport,
  auditGate,
  type ClockReport,
  gateClock,
  listNames,
  type TrustListing,
} from './look.ts';
export { type RenewOptions, renewRoles } from './renew.ts';
export { type RotateOptions, type RotateResult, rotateKeys } from './rotate.ts';
export { type WithdrawOptions, type WithdrawResult, withdrawNames } from './withdraw.ts';
