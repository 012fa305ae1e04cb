import path from 'node:path';
import { SealiftError } from '../../core/errors.ts';
import type { Command } from '../command.ts';

/** The hidden word by which a shell asks what may come next. */
export const COMPLETE = '--get-completions';

/** What to put into a shell's start-up file. Where sealift knows nothing, file names are completed. */
const SCRIPTS = {
  bash: `_sealift() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(sealift ${COMPLETE} "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o bashdefault -o default -F _sealift sealift`,
  zsh: `#compdef sealift
_sealift() {
  local -a words_known
  words_known=(\${(f)"$(sealift ${COMPLETE} "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  (( $#words_known )) && compadd -- $words_known || _files
}
compdef _sealift sealift`,
  fish: `complete -c sealift -a '(sealift ${COMPLETE} (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'`,
} as const;

function isShell(word: string): word is keyof typeof SCRIPTS {
  return Object.hasOwn(SCRIPTS, word);
}

export const completionCommand: Command = {
  words: ['completion'],
  summary: 'print a script that completes sealift in bash, zsh or fish',
  positionals: [{ name: 'SHELL', describe: `${Object.keys(SCRIPTS).join(', ')} (default: that of SHELL)` }],
  options: {},
  examples: [
    'sealift completion bash >> ~/.bashrc',
    'sealift completion fish > ~/.config/fish/completions/sealift.fish',
  ],
  run: ({ args, env }) => {
    const given = args.positional('SHELL');
    const shell = given ?? path.basename(env['SHELL'] ?? 'bash');
    if (!isShell(shell)) {
      if (given === undefined) return Promise.resolve(outcome('bash'));
      throw new SealiftError(
        'invalid-argument',
        `unknown shell, want one of ${Object.keys(SCRIPTS).join(', ')}`,
        {
          subject: 'SHELL',
        },
      );
    }
    return Promise.resolve(outcome(shell));
  },
};

function outcome(shell: keyof typeof SCRIPTS) {
  const script = SCRIPTS[shell];
  return { result: { shell, script }, text: () => script, quiet: script };
}
