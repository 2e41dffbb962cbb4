// Questions to the user before something is removed. They need a terminal.
// An answer that is not yes means no.
import { createInterface } from 'node:readline/promises';
import { UsageError } from '../parsing/options.ts';

/** @param without what to type where no terminal is. @throws UsageError if no terminal is there to ask */
export function requireTerminalToAsk(command: string, without: string): void {
  if (!process.stdin.isTTY)
    throw new UsageError(`${command} asks first, and this is no terminal; use: boxrun ${without}`);
}

export async function ask(question: string): Promise<boolean> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}
