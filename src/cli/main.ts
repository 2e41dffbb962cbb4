// The command `boxrun`: reads the command line, runs the command that it names, and exits with that command's exit
// code. A usage error exits with 2, a failure with 1. `exec` and `run` exit with the exit code of the command in the
// box. It loads only the modules that the current command needs.
import { fstatSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import packageJson from '../../package.json' with { type: 'json' };
import { isClientOnly } from './client-only.ts';
import { commandTable, serverCommands } from './commands/command-table.ts';
import { createInterrupts } from './interrupt.ts';
import { checkArguments } from './parsing/own-arguments.ts';
import { readCommandLine } from './parsing/command-line.ts';
import { findCommand } from './parsing/command.ts';
import { isUsageError, UsageError } from './parsing/options.ts';
import type { KeepCompiled } from '../shared/process/compiled-code.ts';
import { builtHelp } from './parsing/help-texts.ts';
import { readQuickly } from './parsing/quick-words.ts';
import { printError } from './render/render.ts';
import { runCommand } from './parsing/run-command.ts';
import { unknownCommand } from './parsing/suggestions.ts';
import { useAppearance } from './render/appearance.ts';
import type { withClient } from './server/running-server.ts';

async function runCommandLine(args: readonly string[]): Promise<number> {
  const interrupts = createInterrupts([process.stdout, process.stderr]);
  let own: readonly string[] = [];
  try {
    checkArguments(args);
    const line = readCommandLine(args, commandTable);
    const { command, general } = line;
    own = line.own;
    useAppearance(general);
    const context = {
      command,
      interrupts,
      version: packageJson.version,
      withClient: async (work: Parameters<typeof withClient>[0]) =>
        (await import('./server/running-server.ts')).withClient(work),
    };
    const text = command === null ? versionOrHelp(own) : null;
    if (text !== null) {
      process.stdout.write(text);
      return 0;
    }
    const [name] = own;
    if (isClientOnly && serverCommands.includes(name ?? ''))
      throw new UsageError(`this is only the client; install the package boxrun for: boxrun ${name ?? ''}`);
    if (name !== undefined && !name.startsWith('-') && findCommand(commandTable, name) === undefined)
      throw unknownCommand(name, commandTable);
    const quick = readQuickly(own, commandTable);
    if (quick !== null) return await runCommand(quick.spec, quick.values, context);
    return await (await import('./parsing/parser.ts')).parseAndRun(own, commandTable, context);
  } catch (error) {
    if (isUsageError(error)) {
      const commandName = [...own, ...args]
        .filter((word) => commandTable.some(({ name }) => name === word))
        .slice(0, 1);
      process.stderr.write(`boxrun: ${error.message}\nSee: ${['boxrun', ...commandName, '--help'].join(' ')}\n`);
      return 2;
    }
    printError(error);
    return 1;
  }
}

/** The version or a help text, if `words` ask for one and it needs no parser; else null. */
function versionOrHelp(words: readonly string[]): string | null {
  if (words.length === 1 && words[0] === '--version') return `${packageJson.version}\n`;
  // A pipe or a file has no width, and process.stdout takes 2 ms to load.
  return builtHelp(words, fstatSync(1).isCharacterDevice() ? process.stdout.columns : undefined);
}

/**
 * The whole answer to command lines that only print a text: the version, a help text, and candidates for the shell's
 * completion, which runs at each Tab. Null: it is another command line.
 */
async function textAnswer(args: readonly string[]): Promise<string | null> {
  if (args[0] === '__complete')
    return (await import('./completion/completion.ts')).candidateLines(args.slice(1), commandTable);
  return versionOrHelp(args);
}

/**
 * Runs the command line of this process, then exits.
 * @param keepCompiled saves the compiled code of this command, so that later commands start faster
 */
export async function main(keepCompiled: KeepCompiled): Promise<never> {
  const args = process.argv.slice(2);
  const text = await textAnswer(args);
  if (text !== null) await printText(text);
  else {
    process.exitCode = await runCommandLine(args);
    // process.exit() ends the program even if a socket or a timer is still open. It would also cut off output to a pipe
    // that the reader has not taken yet, so the output is flushed first.
    await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  }
  if (args[0] !== 'uninstall') keepCompiled(cacheKey(args)); // `uninstall` must leave no files.
  return process.exit();
}

/** Only names of commands, so that the number of cached files has a bound. */
function cacheKey(args: readonly string[]): string {
  return findCommand(commandTable, args[0])?.name ?? 'other';
}

/** Prints a text without process.stdout, whose streams take 2 ms to load. */
async function printText(text: string): Promise<void> {
  let bytes = Buffer.from(text);
  try {
    while (bytes.length > 0) bytes = bytes.subarray(writeSync(1, bytes));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') process.exit(128 + constants.signals.SIGPIPE);
    process.stdout.write(bytes); // The pipe is full, and a write to it does not wait.
    await flushed(process.stdout);
  }
}

/** Resolves when all output is written, or the reader has closed the pipe. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || stream.writableLength === 0) resolve();
    else
      stream.write('', () => {
        resolve();
      });
  });
}
