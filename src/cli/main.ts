// The command `boxrun`: which commands there are, and how each of them ends. Usage errors exit 2, failures 1, and a command
// that ran in a box gives its own exit code.
import yargs from 'yargs';
import packageJson from '../../package.json' with { type: 'json' };
import { toBoxRunError } from '../shared/errors.ts';
import { addBoxCommands } from './commands/boxes.ts';
import { addDoctorCommand } from './commands/doctor.ts';
import { addExecCommands } from './commands/exec.ts';
import { addImageCommands } from './commands/images.ts';
import { addServeCommand } from './commands/serve.ts';
import type { CommandContext } from './context.ts';
import { createInterrupts } from './interrupt.ts';
import { splitCommand, UsageError } from './options.ts';
import { renderError } from './render.ts';

const commands = ['serve', 'create', 'ls', 'start', 'stop', 'rm', 'exec', 'run', 'gc', 'images', 'doctor'];

async function runCommandLine(args: readonly string[]): Promise<number> {
  const { own, command } = splitCommand(args);
  let exitCode = 0;
  const context: CommandContext = {
    command,
    interrupts: createInterrupts([process.stdout, process.stderr]),
    run: (work) => async (argv) => {
      exitCode = await work(argv);
    },
  };
  const parser = yargs(own)
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
  addServeCommand(parser, context);
  addBoxCommands(parser, context);
  addExecCommands(parser, context);
  addImageCommands(parser, context);
  addDoctorCommand(parser, context);
  try {
    await parser.parseAsync();
    return exitCode;
  } catch (error) {
    if (error instanceof UsageError) {
      const about = own.filter((word) => commands.includes(word)).slice(0, 1);
      process.stderr.write(`boxrun: ${error.message}\nSee: ${['boxrun', ...about, '--help'].join(' ')}\n`);
      return 2;
    }
    process.stderr.write(renderError(toBoxRunError(error)));
    return 1;
  }
}

process.exitCode = await runCommandLine(process.argv.slice(2));
// Nothing that is left open may keep the program from ending.
process.exit();
