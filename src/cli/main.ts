// The command `boxrun`: reads the command line, runs the command that it names, and ends as that says. Usage errors
// exit 2, failures 1, and a command that ran in a box gives its own exit code. Loads no more than the command at hand
// needs.
import packageJson from '../../package.json' with { type: 'json' };
import { commandTable } from './command-table.ts';
import { createInterrupts } from './interrupt.ts';
import { checkArguments } from './own-arguments.ts';
import { loneDash, splitCommand, UsageError } from './options.ts';
import { toBoxRunError } from '../shared/errors.ts';
import { renderError } from './render.ts';
import type { withClient } from './server.ts';

async function runCommandLine(args: readonly string[]): Promise<number> {
  const interrupts = createInterrupts([process.stdout, process.stderr]);
  // Asked by shells at each Tab: see completion.ts.
  if (args[0] === '__complete') return (await import('./completion.ts')).printCandidates(args.slice(1), commandTable);
  const { own: given, command } = splitCommand(args);
  const own = commandTable.find(({ name }) => name === given[0])?.reword?.(given) ?? given;
  let exitCode = 0;
  try {
    checkArguments(args);
    const [{ default: yargs }, { addCommands }] = await Promise.all([import('yargs'), import('./parser.ts')]);
    const parser = yargs(own.map((word) => (word === '-' ? loneDash : word)))
      .scriptName('boxrun')
      .usage('$0 COMMAND\n\nRuns commands in isolated Linux boxes on this host.')
      .locale('en')
      .wrap(Math.min(100, process.stdout.columns || 100))
      .strict()
      .demandCommand(1, 'which command?')
      .alias('help', 'h')
      .version(packageJson.version)
      .exitProcess(false)
      .fail((message: string | null, error: Error | undefined) => {
        throw error ?? new UsageError(message ?? 'not understood');
      });
    const context = {
      command,
      interrupts,
      version: packageJson.version,
      withClient: async (work: Parameters<typeof withClient>[0]) => (await import('./server.ts')).withClient(work),
    };
    addCommands(parser, commandTable, context, (code) => {
      exitCode = code;
    });
    await parser.parseAsync();
    return exitCode;
  } catch (error) {
    if (error instanceof UsageError) {
      const about = own.filter((word) => commandTable.some(({ name }) => name === word)).slice(0, 1);
      process.stderr.write(`boxrun: ${error.message}\nSee: ${['boxrun', ...about, '--help'].join(' ')}\n`);
      return 2;
    }
    process.stderr.write(renderError(toBoxRunError(error)));
    return 1;
  }
}

process.exitCode = await runCommandLine(process.argv.slice(2));
// Nothing that is left open may keep the program from ending, but what was written to a pipe has to be through first.
await Promise.all([written(process.stdout), written(process.stderr)]);
process.exit();

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
