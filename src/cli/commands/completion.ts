// completion: prints what makes a shell complete `boxrun`, names of boxes included.
// The scripts ask the hidden command `__complete`, which main.ts knows.
import { defineCommand } from '../parsing/command.ts';

export const completionCommand = defineCommand({
  name: 'completion',
  describe: 'print a script that completes boxrun in a shell',
  positionals: {
    shell: { describe: 'for which shell', required: true, choices: ['bash', 'zsh', 'fish', 'powershell'] },
  },
  examples: [
    ['completion bash > ~/.local/share/bash-completion/completions/boxrun', 'for every bash from now on'],
    ['completion zsh > "${fpath[1]}/_boxrun"', 'for every zsh'],
    ['completion fish > ~/.config/fish/completions/boxrun.fish', 'for every fish'],
  ],
  async run({ shell }) {
    const { completionScripts } = await import('../completion/completion-scripts.ts');
    process.stdout.write(completionScripts[shell]);
    return 0;
  },
});
