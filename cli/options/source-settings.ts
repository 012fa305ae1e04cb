/** How registries are asked: one way for the command and for the pages, from options, environment and configuration. */
import os from 'node:os';
import path from 'node:path';
import type { SourceOptions } from '../../core/transport/source.ts';
import type { Runtime } from '../command.ts';
import type { Workflows } from '../workflows.ts';
import { endGroup } from './end-group.ts';
import { mirrorsFrom, networkFrom } from './network.ts';
import { readCaFile, temporaryDirectory } from './source.ts';

export interface SourceSettings {
  readonly plainHttp: boolean;
  readonly insecureSkipTlsVerify: boolean;
  readonly caFile: string | undefined;
  readonly authFile: string | undefined;
  /** Values of `--mirror`. */
  readonly mirrors: readonly string[];
  readonly cache: string | undefined;
  readonly retryTimes: number;
  readonly concurrency: number;
  /** Where archives are written out that cannot be read where they lie. */
  readonly temporary: string;
}

export interface SourceSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly homedir: string;
  readonly cwd: string;
  readonly workflows: Pick<Workflows, 'credentials'>;
}

/** What `--retry-times` is where it is not given. */
export const DEFAULT_RETRY_TIMES = 5;
const DEFAULT_CONCURRENCY = 4;

/**
 * @param login narrows or replaces the credentials of the files, such as those of `--username`
 * @throws SealiftError `invalid-argument` where a file cannot be used
 */
export async function sourceOptionsFrom(
  settings: SourceSettings,
  { env, homedir, cwd, workflows }: SourceSurroundings,
  login: (files: SourceOptions['credentials']) => SourceOptions['credentials'] = (files) => files,
): Promise<SourceOptions> {
  const { caFile, cache, plainHttp, insecureSkipTlsVerify, retryTimes, concurrency, temporary } = settings;
  const ca = caFile === undefined ? undefined : readCaFile(path.resolve(cwd, caFile));
  const files = await workflows.credentials({ authFile: settings.authFile, env, homedir });
  return {
    plainHttp,
    insecureSkipTlsVerify,
    ...(ca === undefined ? {} : { caFile: ca }),
    ...networkFrom({ env, homedir }),
    ...(await mirrorsFrom(settings.mirrors, { env, homedir })),
    ...(cache === undefined ? {} : { cache: path.resolve(cwd, cache) }),
    credentials: login(files),
    retryTimes,
    concurrencyPerHost: concurrency,
    timeoutMs: 60_000,
    temporary,
    environment: env,
    endGroup,
  };
}

/**
 * For a command with `sourceOptions` and `archiveOptions`.
 * @param more what only some commands have options for
 * @throws SealiftError `invalid-argument`
 */
export async function sourceOptionsOf(
  runtime: Pick<Runtime, 'args' | 'env' | 'cwd' | 'workflows'>,
  more: Partial<Pick<SourceSettings, 'mirrors' | 'cache' | 'concurrency'>> & {
    readonly login?: (files: SourceOptions['credentials']) => SourceOptions['credentials'];
  } = {},
): Promise<SourceOptions> {
  const { args, env, cwd, workflows } = runtime;
  return sourceOptionsFrom(
    {
      plainHttp: args.flag('plain-http'),
      insecureSkipTlsVerify: args.flag('insecure-skip-tls-verify'),
      caFile: args.text('ca-file'),
      authFile: args.text('authfile'),
      mirrors: more.mirrors ?? [],
      cache: more.cache,
      retryTimes: args.integer('retry-times', 0, 100) ?? DEFAULT_RETRY_TIMES,
      concurrency: more.concurrency ?? DEFAULT_CONCURRENCY,
      temporary: temporaryDirectory(args, env, cwd),
    },
    { env, homedir: os.homedir(), cwd, workflows },
    more.login,
  );
}
