// What ends a command line before its time: Ctrl-C and its like, and a reader of our output that has left (`| head`).
// A command that has something to put in order catches the first of them; a second one ends it at once.
import { constants } from 'node:os';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface Interrupt {
  /** Aborts when the command is to end. */
  readonly signal: AbortSignal;
  /** As a shell would say it: 128+n. */
  exitCode(): number;
  /** True when nobody reads our output any more: then nothing is said. */
  isQuiet(): boolean;
  /** Gives everything its usual effect back. */
  release(): void;
}

export interface Interrupts {
  catch(): Interrupt;
}

/** Watches the output streams from now on: a broken pipe ends the program quietly, unless a command has caught it. */
export function createInterrupts(outputs: readonly NodeJS.WriteStream[]): Interrupts {
  let onPipe: () => void = () => process.exit(128 + constants.signals.SIGPIPE);
  for (const output of outputs) {
    output.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      onPipe();
    });
  }
  return {
    catch() {
      const controller = new AbortController();
      let caught: NodeJS.Signals | null = null;
      const take = (name: NodeJS.Signals) => {
        if (caught !== null && name !== 'SIGPIPE') process.exit(128 + constants.signals[name]);
        caught ??= name;
        controller.abort();
      };
      const usualOnPipe = onPipe;
      onPipe = () => {
        take('SIGPIPE');
      };
      for (const name of signals) process.on(name, take);
      return {
        signal: controller.signal,
        exitCode: () => 128 + constants.signals[caught ?? 'SIGINT'],
        isQuiet: () => caught === 'SIGPIPE',
        release() {
          onPipe = usualOnPipe;
          for (const name of signals) process.off(name, take);
        },
      };
    },
  };
}
