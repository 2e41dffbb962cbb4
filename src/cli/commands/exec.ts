// exec and run: commands in boxes. Output passes through byte by byte as it comes, and the exit code becomes our own.
import { once } from 'node:events';
import { BoxRunError } from '../../shared/errors.ts';
import type { BoxRunClient, ExitEvent } from '../../sdk/index.ts';
import { requireCommand, type CommandContext, type Parser } from '../context.ts';
import type { Interrupt } from '../interrupt.ts';
import { parseSeconds, parseWhole } from '../options.ts';
import { withClient } from '../server.ts';

export function addExecCommands(parser: Parser, context: CommandContext): void {
  addExec(parser, context);
  addRun(parser, context);
}

function addExec(parser: Parser, context: CommandContext): void {
  parser.command(
    'exec <box>',
    'run a command in a box: boxrun exec BOX -- COMMAND ...',
    (command) =>
      command
        .positional('box', { type: 'string', demandOption: true, describe: 'id or name' })
        .option('detach', { alias: 'd', type: 'boolean', default: false, describe: 'do not wait; prints the id of the command' })
        .option('timeout', { alias: 't', type: 'string', requiresArg: true, describe: 'kill it after so many seconds' })
        .example('$0 exec web -- sh -c "ls -l /srv"', 'everything after -- is the command'),
    context.run(async ({ box, detach, timeout }) => {
      const cmd = requireCommand(context, `boxrun exec ${box} -- ls -l`);
      const input = { cmd, ...(timeout === undefined ? {} : { timeout_ms: parseSeconds('timeout', timeout) }) };
      return withClient(async (client) => {
        const interrupt = context.interrupts.catch();
        try {
          const exec = await client.startExec(box, input);
          if (!detach) return await follow(client, exec, interrupt);
          process.stdout.write(`${exec.id}\n`);
          return 0;
        } finally {
          interrupt.release();
        }
      });
    }),
  );
}

type ExecIds = Parameters<BoxRunClient['execEvents']>[0];

async function follow(client: BoxRunClient, exec: ExecIds, interrupt: Interrupt): Promise<number> {
  try {
    for await (const event of client.execEvents(exec, { signal: interrupt.signal })) {
      if (event.type === 'exit') return finish(event);
      await write(event.stream === 'stdout' ? process.stdout : process.stderr, event.bytes, interrupt.signal);
    }
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
  }
  if (!interrupt.signal.aborted) throw new BoxRunError('UNAVAILABLE', `the stream of ${exec.id} was lost`);
  return cancel(client, exec, interrupt);
}

function finish({ exitCode, error }: ExitEvent): number {
  if (error !== null) process.stderr.write(`boxrun: ${error}\n`);
  if (exitCode === null) return 1;
  return exitCode === 0 && error !== null ? 1 : exitCode;
}

async function cancel(client: BoxRunClient, exec: ExecIds, interrupt: Interrupt): Promise<number> {
  const done = await client.cancelExec(exec.box_id, exec.id).then(
    () => 'canceled the command in the box',
    (error: unknown) => {
      if (error instanceof BoxRunError && error.code === 'EXEC_ALREADY_FINISHED') return 'the command had ended already';
      throw error;
    },
  );
  if (!interrupt.isQuiet()) process.stderr.write(`\nboxrun: ${done}\n`);
  return interrupt.exitCode();
}

/** Waits until `stream` takes more, or nobody wants it to. */
async function write(stream: NodeJS.WriteStream, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
  if (stream.write(bytes) || signal.aborted) return;
  await once(stream, 'drain', { signal }).catch(() => undefined);
}

function addRun(parser: Parser, context: CommandContext): void {
  parser.command(
    'run <image>',
    'run one command in a box of its own: boxrun run IMAGE -- COMMAND ...',
    (command) =>
      command
        .positional('image', { type: 'string', demandOption: true, describe: 'image, alias or imported image' })
        .option('timeout', { alias: 't', type: 'string', requiresArg: true, describe: 'kill it after so many seconds' })
        .option('cpu', { type: 'string', requiresArg: true, default: '2', describe: 'CPUs' })
        .option('memory', { alias: 'm', type: 'string', requiresArg: true, default: '1024', describe: 'memory in MiB' })
        .option('disk', { alias: 'd', type: 'string', requiresArg: true, default: '8', describe: 'disk in GiB' })
        .option('network', { type: 'boolean', default: false, describe: 'let it reach the network' })
        .example('$0 run alpine -- echo hello', 'the box is removed afterwards'),
    context.run(async (argv) => {
      const input = {
        image: argv.image,
        cmd: requireCommand(context, `boxrun run ${argv.image} -- ls -l`),
        cpu: parseWhole('cpu', argv.cpu, 1),
        memory_mb: parseWhole('memory', argv.memory, 1),
        disk_size_gb: parseWhole('disk', argv.disk, 1),
        network: argv.network,
        ...(argv.timeout === undefined ? {} : { timeout_ms: parseSeconds('timeout', argv.timeout) }),
      };
      return withClient((client) => runOnce(client, input, context.interrupts.catch()));
    }),
  );
}

async function runOnce(client: BoxRunClient, input: Parameters<BoxRunClient['run']>[0], interrupt: Interrupt): Promise<number> {
  try {
    const result = await client.run(input, { signal: interrupt.signal });
    await write(process.stdout, Buffer.from(result.stdout), interrupt.signal);
    await write(process.stderr, Buffer.from(result.stderr), interrupt.signal);
    return finish({ type: 'exit', seq: 0, exitCode: result.exit_code, error: result.error_message });
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    if (!interrupt.isQuiet()) process.stderr.write('\nboxrun: canceled; the box is removed\n');
    return interrupt.exitCode();
  } finally {
    interrupt.release();
  }
}
