import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { Command, Runtime } from '../command.ts';
import { passphraseOptions, readPassphraseFile } from '../options/passphrase.ts';
import { keyFiles, requestFrom, requestOptions } from '../options/request.ts';
import { keyPath, signerOptions } from '../options/signer.ts';
import {
  delegationsText,
  heldKeyText,
  keysText,
  pendingText,
  refreshedText,
} from '../output/trust-report.ts';
import { signing, signingWith } from './trust-change.ts';

const files = ({ args, cwd }: Runtime, option: string): readonly string[] =>
  args.list(option).map((file) => keyPath(file, cwd));

const signWithOption = {
  'sign-with': {
    kind: 'list',
    value: 'FILE',
    describe: 'a secret key that signs this change too, such as the recovery key; or gpg:FINGERPRINT',
  },
} as const;

export const trustKeyListCommand: Command = {
  words: ['trust', 'key', 'list'],
  summary: 'list the keys of the collection and what each signs',
  options: {},
  examples: ['sealift trust key list'],
  run: async (runtime) => {
    const operations = await runtime.workflows.trustOperations();
    const result = await operations.listKeys(
      { collection: runtime.paths.collection.path },
      await runtime.context(),
    );
    return { result, text: (view) => keysText(result, view) };
  },
};

export const trustKeyGenerateCommand: Command = {
  words: ['trust', 'key', 'generate'],
  summary: 'make a key that signs nothing yet',
  options: {
    keys: {
      kind: 'text',
      value: 'KIND',
      choices: ['openpgp', 'native'],
      describe: 'openpgp or native (default: as the collection has it)',
    },
    'user-id': { kind: 'text', value: 'TEXT', describe: 'user id of an OpenPGP key' },
    ...passphraseOptions,
  },
  examples: ['sealift trust key generate', 'sealift trust key export KEY > anna.pem'],
  run: async (runtime) => {
    const { args } = runtime;
    const operations = await runtime.workflows.trustOperations();
    const kind = args.text('keys');
    const result = await operations.generateKey(
      {
        collection: runtime.paths.collection.path,
        pid: runtime.pid,
        newPassphrase: runtime.newPassphrase,
        kind: kind === 'native' || kind === 'openpgp' ? kind : undefined,
        userId: args.text('user-id'),
      },
      await runtime.context(),
    );
    return {
      result,
      text: (view) => heldKeyText('made', result, view),
      quiet: result.fingerprint ?? result.keyId,
    };
  },
};

export const trustKeyImportCommand: Command = {
  words: ['trust', 'key', 'import'],
  summary: 'take a secret key into the collection',
  about:
    'OpenPGP, or PEM; keys of docker and notary, below ~/.docker/trust/private or ~/.notary/private, are such. It must have a passphrase, and keeps it. gpg:FINGERPRINT notes that gpg holds the key, in its keyring or on a card, where it stays: from then on gpg makes the signatures.',
  positionals: [{ name: 'FILE', describe: 'the key, or gpg:FINGERPRINT', required: true }],
  options: { ...passphraseOptions },
  examples: ['sealift trust key import anna.pem', 'sealift trust key import gpg:FINGERPRINT'],
  run: async (runtime) => {
    const operations = await runtime.workflows.trustOperations();
    const file = keyPath(runtime.args.positional('FILE') ?? '', runtime.cwd);
    const result = await operations.importKey({ ...signing(runtime), file }, await runtime.context());
    return {
      result,
      text: (view) => heldKeyText('taken in', result, view),
      quiet: result.fingerprint ?? result.keyId,
    };
  },
};

export const trustKeyExportCommand: Command = {
  words: ['trust', 'key', 'export'],
  summary: 'print the public half of a key',
  positionals: [{ name: 'KEY', describe: 'key id or fingerprint', required: true }],
  options: { ...passphraseOptions },
  examples: ['sealift trust key export KEY > anna.pem'],
  run: async (runtime) => {
    const operations = await runtime.workflows.trustOperations();
    const key = runtime.args.positional('KEY') ?? '';
    const result = await operations.exportKey({ ...signing(runtime), key }, await runtime.context());
    return { result, text: () => result.text.trimEnd(), quiet: result.text.trimEnd() };
  },
};

export const trustKeyRefreshCommand: Command = {
  words: ['trust', 'key', 'refresh'],
  summary: 'take a renewed OpenPGP certificate into the collection',
  about:
    'An OpenPGP key that was given more time, another signing subkey or a revocation is still the same key; what is new of its certificate has to reach the gates. The next bundle carries it.',
  positionals: [{ name: 'FILE', describe: 'the certificate, or gpg:FINGERPRINT', required: true }],
  options: { ...passphraseOptions },
  examples: ['sealift trust key refresh gpg:FINGERPRINT', 'sealift trust key refresh anna.asc'],
  run: async (runtime) => {
    const operations = await runtime.workflows.trustOperations();
    const source = keyPath(runtime.args.positional('FILE') ?? '', runtime.cwd);
    const result = await operations.refreshKey({ ...signing(runtime), source }, await runtime.context());
    return { result, text: (view) => refreshedText(result, view) };
  },
};

export const trustKeyPasswdCommand: Command = {
  words: ['trust', 'key', 'passwd'],
  summary: 'give a key another passphrase',
  positionals: [{ name: 'KEY', describe: 'key id or fingerprint', required: true }],
  options: {
    'new-passphrase-file': {
      kind: 'text',
      value: 'FILE',
      describe: 'the first line of a file is the new passphrase (default: asked for at the terminal)',
    },
    ...passphraseOptions,
  },
  examples: ['sealift trust key passwd KEY'],
  run: async (runtime) => {
    const { args, cwd } = runtime;
    const operations = await runtime.workflows.trustOperations();
    const newFile = args.text('new-passphrase-file');
    const result = await operations.changePassphrase(
      {
        ...signing(runtime),
        key: args.positional('KEY') ?? '',
        newPassphrase:
          newFile === undefined
            ? runtime.newPassphrase
            : async () => readPassphraseFile(path.resolve(cwd, newFile), runtime),
      },
      await runtime.context(),
    );
    return { result, text: (view) => heldKeyText('has a new passphrase', result, view) };
  },
};

export const trustKeyRemoveCommand: Command = {
  words: ['trust', 'key', 'remove'],
  summary: 'move a secret key aside, or take a key from a role',
  about:
    'Without --role the secret key goes to keys/retired and signs nothing here any more. With --role the key is taken from the role, which is signed anew by those that are left.',
  positionals: [{ name: 'KEY', describe: 'key id or fingerprint', required: true }],
  options: {
    role: { kind: 'text', value: 'ROLE', describe: 'the role it signs no more' },
    threshold: { kind: 'text', value: 'N', describe: 'how many of the others must sign from now on' },
    force: { kind: 'flag', describe: 'also a secret key that a role still counts on' },
    ...signWithOption,
    ...requestOptions,
    ...signerOptions,
    ...passphraseOptions,
  },
  examples: ['sealift trust key remove KEY', 'sealift trust key remove KEY --role images --threshold 1'],
  run: async (runtime) => {
    const { args } = runtime;
    const operations = await runtime.workflows.trustOperations();
    const key = args.positional('KEY') ?? '';
    const role = args.text('role');
    if (role === undefined) {
      const result = await operations.retireKey(
        { ...signing(runtime), key, force: args.flag('force') },
        await runtime.context(),
      );
      return { result, text: () => `moved to ${result.file}` };
    }
    const result = await operations.changeRoleKeys(
      {
        ...signingWith(runtime),
        role,
        add: [],
        remove: [key],
        threshold: args.integer('threshold', 1, 100),
        signWith: keyFiles(runtime, 'sign-with', signing(runtime).passphrase),
        request: requestFrom(runtime),
      },
      await runtime.context(),
    );
    return { result, text: (view) => pendingText(result, view) };
  },
};

export const trustKeyAddCommand: Command = {
  words: ['trust', 'key', 'add'],
  summary: 'let further keys sign a role, and say how many must',
  about:
    'FILE is a public key: PEM, an X.509 certificate, an OpenPGP certificate, or gpg:FINGERPRINT. Whoever delegates the role signs the change, and the holders of the keys sign the role; with --request others add theirs.',
  positionals: [{ name: 'FILE', describe: 'a public key', many: true }],
  options: {
    role: { kind: 'text', value: 'ROLE', describe: 'the role they sign' },
    replace: { kind: 'list', value: 'KEY', describe: 'a key that signs it no more; may be given again' },
    threshold: { kind: 'text', value: 'N', describe: 'how many must sign (default: as before)' },
    ...signWithOption,
    ...requestOptions,
    ...signerOptions,
    ...passphraseOptions,
  },
  examples: [
    'sealift trust key add --role images anna.pem berta.pem --threshold 2 --request rekey.json',
    'sealift trust key add --role root officer.asc --threshold 2 --request root.json',
  ],
  run: async (runtime) => {
    const { args, cwd } = runtime;
    const role = args.text('role');
    if (role === undefined) {
      throw new SealiftError('invalid-argument', 'which role do they sign? --role is missing', {
        subject: '--role',
        hint: 'sealift trust key list shows the roles',
      });
    }
    const operations = await runtime.workflows.trustOperations();
    const result = await operations.changeRoleKeys(
      {
        ...signingWith(runtime),
        role,
        add: args.positionals('FILE').map((file) => keyPath(file, cwd)),
        remove: args.list('replace'),
        threshold: args.integer('threshold', 1, 100),
        signWith: keyFiles(runtime, 'sign-with', signing(runtime).passphrase),
        request: requestFrom(runtime),
      },
      await runtime.context(),
    );
    return { result, text: (view) => pendingText(result, view) };
  },
};

export const trustDelegationAddCommand: Command = {
  words: ['trust', 'delegation', 'add'],
  summary: 'hand the names below a prefix to other keys',
  about:
    "Only the holders of these keys can sign names below the prefix then, unless somebody holds the key of targets or root too: whoever does can put themselves in their place. Names that are there already go into the new role, which the holders sign first (--request). A namespace below another is handed on by the one above's holder.",
  positionals: [{ name: 'PREFIX', describe: 'such as docker.io/acme/', required: true }],
  options: {
    key: {
      kind: 'list',
      value: 'FILE',
      describe: 'a public key: OpenPGP or X.509 certificate, PEM, or gpg:FINGERPRINT; may be given again',
    },
    threshold: { kind: 'text', value: 'N', describe: 'how many of them must sign (default 1)' },
    role: { kind: 'text', value: 'ROLE', describe: 'name of the role (default: made from the prefix)' },
    ...signWithOption,
    ...requestOptions,
    ...signerOptions,
    ...passphraseOptions,
  },
  examples: [
    'sealift trust delegation add docker.io/acme/ --key acme.asc --request acme.json',
    'sealift trust sign acme.json --key acme-secret.asc',
    'sealift trust publish acme.json',
  ],
  run: async (runtime) => {
    const { args } = runtime;
    const operations = await runtime.workflows.trustOperations();
    const result = await operations.addDelegation(
      {
        ...signingWith(runtime),
        prefix: args.positional('PREFIX') ?? '',
        add: files(runtime, 'key'),
        threshold: args.integer('threshold', 1, 100),
        role: args.text('role'),
        signWith: keyFiles(runtime, 'sign-with', signing(runtime).passphrase),
        request: requestFrom(runtime),
      },
      await runtime.context(),
    );
    return { result, text: (view) => pendingText(result, view) };
  },
};

export const trustDelegationListCommand: Command = {
  words: ['trust', 'delegation', 'list'],
  summary: 'list the namespaces, who signs them, and who could',
  options: {},
  examples: ['sealift trust delegation list'],
  run: async (runtime) => {
    const operations = await runtime.workflows.trustOperations();
    const collection = runtime.paths.collection.path;
    const result = await operations.listDelegations({ collection }, await runtime.context());
    return { result, text: (view) => delegationsText(result, view) };
  },
};

export const trustDelegationRemoveCommand: Command = {
  words: ['trust', 'delegation', 'remove'],
  summary: 'take a namespace back',
  about: 'Its names and withdrawals go to the role above, which signs them from now on.',
  positionals: [{ name: 'ROLE', describe: 'as trust delegation list shows it', required: true }],
  options: { ...requestOptions, ...signerOptions, ...passphraseOptions },
  examples: ['sealift trust delegation remove docker.io-acme'],
  run: async (runtime) => {
    const operations = await runtime.workflows.trustOperations();
    const result = await operations.removeDelegation(
      {
        ...signingWith(runtime),
        role: runtime.args.positional('ROLE') ?? '',
        request: requestFrom(runtime),
      },
      await runtime.context(),
    );
    return { result, text: (view) => pendingText(result, view) };
  },
};
