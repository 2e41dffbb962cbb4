// serve: checks that the chosen driver works on this host, says what it offers, and then becomes the keeper.
import { mkdirSync } from 'node:fs';
import { loadConfig, stateDirectories, type Config } from '../../shared/config.ts';
import { probeDriver } from '../../shared/driver-probe.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { refuseCommand, type CommandContext, type Parser } from '../context.ts';
import { parseWhole } from '../options.ts';

export function addServeCommand(parser: Parser, context: CommandContext): void {
  parser.command(
    'serve',
    'run the server in the foreground; Ctrl-C ends it, boxes run on',
    (command) =>
      command
        .option('host', { type: 'string', requiresArg: true, describe: 'address to listen on (BOXRUN_HOST)', defaultDescription: '127.0.0.1' })
        .option('port', { type: 'string', requiresArg: true, describe: 'port to listen on (BOXRUN_PORT)', defaultDescription: '9090' })
        .option('socket', { type: 'string', requiresArg: true, describe: 'Unix socket to listen on; alone: on nothing else (BOXRUN_SOCKET)' })
        .option('workers', { type: 'string', requiresArg: true, describe: 'spare workers kept ready (BOXRUN_WORKERS)' })
        .option('driver', { choices: ['boxlite', 'container'] as const, describe: 'engine of the boxes (BOXRUN_DRIVER)', defaultDescription: 'boxlite' })
        .option('on-exit', { choices: ['detach', 'stop'] as const, describe: 'what becomes of running boxes', defaultDescription: 'detach' })
        .option('log-level', { choices: ['trace', 'debug', 'info', 'warn', 'error'] as const, describe: 'how much the logs say' })
        .example('$0 serve --port 9191', 'on another port'),
    context.run(async (argv) => {
      refuseCommand(context);
      const config = loadConfig({
        host: argv.host,
        port: argv.port === undefined ? undefined : parseWhole('port', argv.port, 0),
        socket: argv.socket,
        workers: argv.workers === undefined ? undefined : parseWhole('workers', argv.workers, 0),
        driver: argv.driver,
        onExit: argv.onExit,
        logLevel: argv.logLevel,
      });
      return serve(config);
    }),
  );
}

async function serve(config: Config): Promise<number> {
  for (const directory of stateDirectories(config.stateDir)) mkdirSync(directory, { recursive: true, mode: 0o700 });
  const probe = await probeDriver(config);
  if (!probe.ok) {
    throw new BoxRunError('RUNTIME_ERROR', `the ${config.driver} driver does not work on this host:\n${list(probe.problems)}`, {
      hint:
        config.driver === 'boxlite'
          ? 'boxes can run as containers instead, less isolated from the host: boxrun serve --driver container (or BOXRUN_DRIVER=container)'
          : '`boxrun doctor` explains more',
    });
  }
  // Loaded here only: no other command becomes a server.
  const { runKeeper } = await import('../../keeper/main.ts');
  return runKeeper(config, { onReady: (facts) => process.stdout.write(describeServer(config, facts)) });
}

function list(problems: readonly string[]): string {
  return problems.map((problem) => `  - ${problem}`).join('\n');
}

function describeServer(config: Config, facts: Readonly<Record<string, unknown>>): string {
  const tcp = facts['tcp'] as { host: string; port: number } | null;
  const host = tcp?.host.includes(':') ? `[${tcp.host}]` : tcp?.host;
  return [
    'BoxRun is ready',
    ...(tcp === null ? [] : [`  listening   http://${host}:${tcp.port}`]),
    ...(config.socketPath === null ? [] : [`  ${tcp === null ? 'listening' : '         '}   ${config.socketPath}`]),
    `  driver      ${config.driver}`,
    `  limits      ${config.maxCpu} CPUs, ${config.maxMemoryMb} MiB over all boxes (BOXRUN_MAX_CPU, BOXRUN_MAX_MEMORY_MB)`,
    `  state       ${config.stateDir}`,
    '',
  ].join('\n');
}
