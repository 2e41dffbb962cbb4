// serve: checks that the chosen driver works on this host, says what it offers, and then becomes the keeper.
// The only command that loads a part of the server.
import { loadConfig, type Config } from '../../shared/config.ts';
import { makeStateDirectories } from '../../shared/state-dir.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { defineCommand } from '../command.ts';
import { parseWhole } from '../options.ts';

export const serveCommand = defineCommand({
  name: 'serve',
  describe: 'run the server in the foreground; Ctrl-C ends it, boxes run on',
  options: {
    host: { type: 'text', describe: 'address to listen on (BOXRUN_HOST)', shownDefault: '127.0.0.1' },
    port: { type: 'text', describe: 'port to listen on (BOXRUN_PORT)', shownDefault: '9090' },
    socket: { type: 'text', kind: 'file', describe: 'Unix socket to listen on; alone: on nothing else (BOXRUN_SOCKET)' },
    workers: { type: 'text', describe: 'spare workers kept ready (BOXRUN_WORKERS)' },
    driver: { type: 'text', choices: ['boxlite', 'container'], describe: 'engine of the boxes (BOXRUN_DRIVER)', shownDefault: 'boxlite' },
    'on-exit': { type: 'text', choices: ['detach', 'stop'], describe: 'what becomes of running boxes', shownDefault: 'detach' },
    'log-level': { type: 'text', choices: ['trace', 'debug', 'info', 'warn', 'error'], describe: 'how much the logs say' },
    'log-format': { type: 'text', choices: ['json', 'pretty'], describe: 'lines for programs, or for people (BOXRUN_LOG_FORMAT)', shownDefault: 'json' },
  },
  examples: [['serve --port 9191', 'on another port']],
  async run(values) {
    const config = loadConfig({
      host: values.host,
      port: values.port === undefined ? undefined : parseWhole('port', values.port, 0),
      socket: values.socket,
      workers: values.workers === undefined ? undefined : parseWhole('workers', values.workers, 0),
      driver: values.driver,
      onExit: values['on-exit'],
      logLevel: values['log-level'],
      logFormat: values['log-format'],
    });
    return serve(config);
  },
});

async function serve(config: Config): Promise<number> {
  makeStateDirectories(config.stateDir);
  const { probeDriver } = await import('../../shared/driver-probe.ts');
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
