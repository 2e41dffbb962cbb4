// The flags of the commands that start a command in a box: exec and run.
// Both have the same ones, so that a user learns them once.
import { detachKeysOption, envOptions } from './box-options.ts';

const timeoutOption = { type: 'text', describe: 'kill the command after this time, in seconds' } as const;

export const execOptions = {
  interactive: { type: 'flag', alias: 'i', describe: 'pass standard input on to the command' },
  tty: {
    type: 'flag',
    alias: 't',
    describe: 'run the command in a terminal: this one, if there is one (-t SECONDS means --timeout)',
  },
  'detach-keys': detachKeysOption,
  detach: { type: 'flag', alias: 'd', describe: 'do not wait for the command; print its id' },
  timeout: timeoutOption,
  ...envOptions,
  workdir: { type: 'text', alias: 'w', describe: 'working directory in the box', shownDefault: "the box's" },
  user: { type: 'text', alias: 'u', describe: 'user in the box, NAME|ID[:GROUP]', shownDefault: "the image's" },
} as const;
