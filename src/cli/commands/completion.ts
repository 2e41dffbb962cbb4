// The command completion: prints the script that lets a shell complete command lines of `boxrun`.
// The scripts call the hidden command `boxrun __complete`, which main.ts handles.
import { defineCommand } from '../parsing/command.ts';

export const completionCommand = defineCommand({
  name: 'completion',
  describe: 'print the completion script for a shell',
  positionals: {
    shell: { describe: 'name of the shell', required: true, choices: ['bash', 'zsh', 'fish', 'powershell'] },
  },
  examples: [
    ['completion bash > ~/.local/share/bash-completion/completions/boxrun', 'for every new bash'],
    ['completion zsh > "${fpath[1]}/_boxrun"', 'for every new zsh'],
    ['completion fish > ~/.config/fish/completions/boxrun.fish', 'for every new fish'],
  ],
  async run({ shell }) {
    const { completionScripts } = await import('../completion/completion-scripts.ts');
    process.stdout.write(completionScripts[shell]);
    return 0;
  },
});
