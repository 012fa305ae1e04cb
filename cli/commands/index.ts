import type { Command } from '../command.ts';
import { approveCommand } from './approve.ts';
import { bundleMergeCommand, bundleRepackCommand, bundleSubsetCommand } from './bundle-rewrite.ts';
import { bundleJoinCommand, bundleSplitCommand } from './bundle-volumes.ts';
import { clientConfigCommand } from './client-config.ts';
import { completionCommand } from './completion.ts';
import { diffCommand } from './diff.ts';
import { exportCommand } from './export.ts';
import { gcCommand } from './gc.ts';
import { importCommand } from './import.ts';
import { initCommand } from './init.ts';
import { inspectCommand } from './inspect.ts';
import { loginCommand } from './login.ts';
import { logoutCommand } from './logout.ts';
import { lookasideCommand } from './lookaside.ts';
import { lsCommand } from './ls.ts';
import { officersClearCommand, officersListCommand, officersSetCommand } from './officers.ts';
import { policyCheckCommand, policyClearCommand, policyExplainCommand, policySetCommand } from './policy.ts';
import { receiptCommand, trustPinGateCommand } from './receipt.ts';
import { serveCommand } from './serve.ts';
import { signCommand } from './sign.ts';
import { syncCommand } from './sync.ts';
import { trustPinCommand, trustRootCommand, trustStatusCommand } from './trust.ts';
import { trustKeyRotateCommand, trustRemoveCommand, trustRenewCommand } from './trust-change.ts';
import {
  trustDelegationAddCommand,
  trustDelegationListCommand,
  trustDelegationRemoveCommand,
  trustKeyAddCommand,
  trustKeyExportCommand,
  trustKeyGenerateCommand,
  trustKeyImportCommand,
  trustKeyListCommand,
  trustKeyPasswdCommand,
  trustKeyRefreshCommand,
  trustKeyRemoveCommand,
} from './trust-keys.ts';
import { trustAuditCommand, trustClockCommand, trustListCommand } from './trust-look.ts';
import { trustAddCommand, trustPublishCommand, trustSignCommand } from './trust-sign.ts';
import {
  trustDelegationPurgeCommand,
  trustLookupCommand,
  trustResetCommand,
  trustStagedCommand,
} from './trust-staged.ts';
import { trustWitnessCommand } from './trust-witness.ts';
import { verifyCommand } from './verify.ts';
import { versionCommand } from './version.ts';
import { whyCommand } from './why.ts';

/** Every command, in the order help shows them. */
export const COMMANDS: readonly Command[] = [
  initCommand,
  exportCommand,
  verifyCommand,
  inspectCommand,
  diffCommand,
  bundleMergeCommand,
  bundleSubsetCommand,
  bundleRepackCommand,
  bundleSplitCommand,
  bundleJoinCommand,
  approveCommand,
  importCommand,
  receiptCommand,
  lsCommand,
  whyCommand,
  gcCommand,
  serveCommand,
  loginCommand,
  logoutCommand,
  syncCommand,
  clientConfigCommand,
  lookasideCommand,
  trustPinCommand,
  trustPinGateCommand,
  trustStatusCommand,
  trustRootCommand,
  trustListCommand,
  trustLookupCommand,
  trustAddCommand,
  trustRemoveCommand,
  trustRenewCommand,
  trustWitnessCommand,
  trustSignCommand,
  trustPublishCommand,
  trustStagedCommand,
  trustResetCommand,
  trustKeyListCommand,
  trustKeyRotateCommand,
  trustKeyAddCommand,
  trustKeyRefreshCommand,
  trustKeyRemoveCommand,
  trustKeyGenerateCommand,
  trustKeyImportCommand,
  trustKeyExportCommand,
  trustKeyPasswdCommand,
  trustDelegationAddCommand,
  trustDelegationListCommand,
  trustDelegationRemoveCommand,
  trustDelegationPurgeCommand,
  trustAuditCommand,
  trustClockCommand,
  signCommand,
  policyCheckCommand,
  policyExplainCommand,
  policySetCommand,
  policyClearCommand,
  officersSetCommand,
  officersListCommand,
  officersClearCommand,
  versionCommand,
  completionCommand,
];
