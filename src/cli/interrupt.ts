// Interrupts of a running command line: SIGINT (Ctrl-C), SIGTERM, SIGHUP, and a closed output pipe (`| head`).
// A command that must clean up catches the first interrupt. A second signal ends the program at once.
import { constants } from 'node:os';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface Interrupt {
  /** Aborts at the first interrupt: the command must end now. */
  readonly signal: AbortSignal;
  /** 128 plus the number of the signal, as in a shell. */
  exitCode(): number;
  /** True if the reader of our output has closed the pipe. Then the command prints nothing more. */
  isQuiet(): boolean;
  /** Stops catching: interrupts end the program again. */
  release(): void;
}

export interface Interrupts {
  /** Catches interrupts from now on, until `release`. */
  catch(): Interrupt;
}

/**
 * Handles errors of the output streams from now on. A closed pipe ends the program without a message, unless a command
 * has caught interrupts.
 */
export function createInterrupts(outputs: readonly NodeJS.WriteStream[]): Interrupts {
  let onPipe: () => void = () => process.exit(128 + constants.signals.SIGPIPE);
  for (const output of outputs) {
    output.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
      onPipe();
    });
  }
  const exitBy = (name: NodeJS.Signals) => process.exit(128 + constants.signals[name]);
  let onSignal: (name: NodeJS.Signals) => void = exitBy;
  let isListening = false;
  return {
    catch() {
      // The listeners stay. If they left between two catches, Node would drop a signal that has come and waits.
      if (!isListening) for (const name of signals) process.on(name, () => onSignal(name));
      isListening = true;
      const controller = new AbortController();
      let caught: NodeJS.Signals | null = null;
      const interrupt = (name: NodeJS.Signals) => {
        if (caught !== null && name !== 'SIGPIPE') exitBy(name);
        caught ??= name;
        controller.abort();
      };
      const previousOnPipe = onPipe;
      onPipe = () => {
        interrupt('SIGPIPE');
      };
      const previousOnSignal = onSignal;
      onSignal = interrupt;
      return {
        signal: controller.signal,
        exitCode: () => 128 + constants.signals[caught ?? 'SIGINT'],
        isQuiet: () => caught === 'SIGPIPE',
        release() {
          onPipe = previousOnPipe;
          onSignal = previousOnSignal;
        },
      };
    },
  };
}
