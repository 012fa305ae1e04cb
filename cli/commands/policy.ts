import path from 'node:path';
import { inert } from '../../core/errors.ts';
import type { RequirementSummary } from '../../core/trust/policy/admin.ts';
import type { Command, TextView } from '../command.ts';

const admin = () => import('../../core/trust/policy/admin.ts');

function requirementLines(
  requirements: readonly RequirementSummary[],
  { style }: TextView,
): readonly string[] {
  return requirements.map(({ line, text, judged, problem }) => {
    if (!judged) return `  ${style.fail} line ${line}: ${inert(text)}: refuses, this sealift cannot judge it`;
    if (problem !== undefined)
      return `  ${style.fail} line ${line}: ${inert(text)}: refuses, ${inert(problem)}`;
    return `  ${style.pass} line ${line}: ${inert(text)}`;
  });
}

export const policyCheckCommand: Command = {
  words: ['policy', 'check'],
  summary: 'read a policy and the keys it names',
  about:
    'A policy is a containers-policy.json(5), as podman and skopeo take it. Errors name the line. A requirement whose keys are missing, or which sealift cannot judge, is shown: it refuses every image it is asked about.',
  positionals: [{ name: 'FILE', describe: 'the policy', required: true }],
  options: {},
  examples: ['sealift policy check policy.json'],
  run: async (runtime) => {
    const file = path.resolve(runtime.cwd, runtime.args.positional('FILE') ?? '');
    const result = await (await admin()).checkPolicy(file, await runtime.context());
    return {
      result,
      text: (view) =>
        [
          `${view.style.pass} ${view.style.good('well formed')}  ${view.style.bold(inert(result.policy, 4096))}`,
          `  ${result.scopes} scopes beside default`,
          ...requirementLines(result.requirements, view),
        ].join('\n'),
      quiet: result.sha256,
    };
  },
};

export const policyExplainCommand: Command = {
  words: ['policy', 'explain'],
  summary: 'show what a policy demands of a name, and why',
  about: 'The most specific scope of the transport docker applies, alone; all its requirements must hold.',
  positionals: [{ name: 'NAME', describe: 'an image name', required: true }],
  options: {
    policy: { kind: 'text', value: 'FILE', describe: "this policy instead of the gate's" },
  },
  examples: [
    'sealift policy explain registry.example.com/app/web:1.0',
    'sealift policy explain alpine:3.20 --policy policy.json',
  ],
  run: async (runtime) => {
    const { args, cwd, paths } = runtime;
    const policy = args.text('policy');
    const result = await (await admin()).explainPolicy(
      {
        name: args.positional('NAME') ?? '',
        gate: paths.gate.path,
        policy: policy === undefined ? undefined : path.resolve(cwd, policy),
      },
      await runtime.context(),
    );
    return {
      result,
      text: (view) =>
        [
          view.style.bold(inert(result.name)),
          `  policy   ${inert(result.policy, 4096)}`,
          `  tried    ${result.tried.map((scope) => inert(scope)).join(', ')}`,
          `  applies  ${inert(result.scope)}; all of these must hold:`,
          ...requirementLines(result.requirements, view),
        ].join('\n'),
      quiet: result.scope,
    };
  },
};

export const policySetCommand: Command = {
  words: ['policy', 'set'],
  summary: 'make a policy the one this gate judges by',
  about:
    'The gate keeps the policy with the OpenPGP keys it names, so that files that change later change nothing. From then on import and verify apply it; if it is lost, nothing is let in.',
  positionals: [{ name: 'FILE', describe: 'the policy', required: true }],
  options: {},
  examples: ['sealift policy set policy.json'],
  run: async (runtime) => {
    const file = path.resolve(runtime.cwd, runtime.args.positional('FILE') ?? '');
    const { paths, pid, actor } = runtime;
    const context = await runtime.context();
    const result = await (await admin()).setPolicy({ gate: paths.gate.path, file, pid, actor }, context);
    return {
      result,
      text: ({ style }) =>
        [
          `${style.pass} ${style.good('set')}  ${style.bold(inert(file, 4096))} in ${inert(result.gate, 4096)}`,
          `  sha256     ${result.sha256 ?? ''}`,
          `  audit log  head ${result.auditHead}`,
        ].join('\n'),
      quiet: result.sha256,
    };
  },
};

export const policyClearCommand: Command = {
  words: ['policy', 'clear'],
  summary: 'take the policy of this gate away (is recorded)',
  options: {},
  examples: ['sealift policy clear'],
  run: async (runtime) => {
    const { paths, pid, actor } = runtime;
    const context = await runtime.context();
    const result = await (await admin()).setPolicy(
      { gate: paths.gate.path, file: undefined, pid, actor },
      context,
    );
    return {
      result,
      text: ({ style }) =>
        [
          `${style.attention} ${style.warn('cleared')}  no policy is set in ${inert(result.gate, 4096)}: the collection alone decides`,
          `  audit log  head ${result.auditHead}`,
        ].join('\n'),
    };
  },
};
