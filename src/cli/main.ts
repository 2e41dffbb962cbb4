// The command `boxrun`: reads the command line, runs the command that it names, and ends as that says. Usage errors
// exit 2, failures 1, and a command that ran in a box gives its own exit code. Loads no more than the command at hand
// needs.
import packageJson from '../../package.json' with { type: 'json' };
import { commandTable } from './parsing/command-table.ts';
import { createInterrupts } from './terminal/interrupt.ts';
import { checkArguments } from './parsing/own-arguments.ts';
import { isUsageError, splitCommand } from './parsing/options.ts';
import type { KeepCompiled } from '../shared/process/compiled-code.ts';
import { toBoxRunError } from '../shared/errors.ts';
import { builtHelp } from './parsing/help-texts.ts';
import { readQuickly } from './parsing/quick-words.ts';
import { renderError } from './render/render.ts';
import { runCommand } from './parsing/run-command.ts';
import type { withClient } from './server/running-server.ts';

async function runCommandLine(args: readonly string[]): Promise<number> {
  const interrupts = createInterrupts([process.stdout, process.stderr]);
  // Shells ask it at each Tab: see completion.ts.
  if (args[0] === '__complete')
    return (await import('./completion/completion.ts')).printCandidates(args.slice(1), commandTable);
  const { own: given, command } = splitCommand(args);
  const own = commandTable.find(({ name }) => name === given[0])?.reword?.(given) ?? given;
  const context = {
    command,
    interrupts,
    version: packageJson.version,
    withClient: async (work: Parameters<typeof withClient>[0]) =>
      (await import('./server/running-server.ts')).withClient(work),
  };
  try {
    checkArguments(args);
    const text = command === null ? quickText(own) : null;
    if (text !== null) {
      process.stdout.write(text);
      return 0;
    }
    const quick = readQuickly(own, commandTable);
    if (quick !== null) return await runCommand(quick.spec, quick.values, context);
    return await (await import('./parsing/parser.ts')).parseAndRun(own, commandTable, context);
  } catch (error) {
    if (isUsageError(error)) {
      const about = own.filter((word) => commandTable.some(({ name }) => name === word)).slice(0, 1);
      process.stderr.write(`boxrun: ${error.message}\nSee: ${['boxrun', ...about, '--help'].join(' ')}\n`);
      return 2;
    }
    process.stderr.write(renderError(toBoxRunError(error)));
    return 1;
  }
}

/** What is only to be printed. */
function quickText(words: readonly string[]): string | null {
  if (words.length === 1 && words[0] === '--version') return `${packageJson.version}\n`;
  return builtHelp(words, process.stdout.columns);
}

/** `keepCompiled` keeps the compiled code of this command for the commands to come. */
export async function main(keepCompiled: KeepCompiled): Promise<never> {
  const args = process.argv.slice(2);
  process.exitCode = await runCommandLine(args);
  // What is still open may not keep the program from ending. But a reader at a pipe gets everything first.
  await Promise.all([written(process.stdout), written(process.stderr)]);
  if (args[0] !== 'uninstall') keepCompiled(useOf(args)); // That one leaves nothing behind.
  return process.exit();
}

/** The words that are known: how many different uses there are has a bound. */
function useOf(args: readonly string[]): string {
  const [first = ''] = args;
  return commandTable.some(({ name }) => name === first) ? first : 'other';
}

/** Resolves when the reader has everything, or is gone. */
function written(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed || stream.writableLength === 0) resolve();
    else
      stream.write('', () => {
        resolve();
      });
  });
}
