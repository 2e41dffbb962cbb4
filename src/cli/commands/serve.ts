// The command serve: checks that the chosen driver works on this host. Then this process becomes the keeper.
// The code of the keeper is in the bundle of heavy.ts. Most other commands do not load that bundle.
import { capTable, type CapSetting } from '../../shared/settings/caps.ts';
import { loadConfig, takeNotifySocket, takeToken, type Config } from '../../shared/settings/config.ts';
import { makeStateDirectories } from '../../shared/settings/state-dir.ts';
import { BoxRunError, errorText } from '../../shared/errors.ts';
import { defineCommand } from '../parsing/command.ts';
import { parseWhole } from '../parsing/options.ts';

interface CapOption {
  readonly type: 'text';
  readonly describe: string;
  readonly shownDefault: string;
}

const capSettings = Object.values(capTable);
const capOptions = Object.fromEntries(
  capSettings.map(({ setting, describe, defaultValue }) => [
    setting,
    { type: 'text', describe, shownDefault: String(defaultValue) },
  ]),
) as Record<CapSetting, CapOption>;

export const serveCommand = defineCommand({
  name: 'serve',
  describe: 'run the server in the foreground; Ctrl-C ends the server, and boxes run on',
  options: {
    host: { type: 'text', describe: 'address to listen on (BOXRUN_HOST)', shownDefault: '127.0.0.1' },
    port: { type: 'text', describe: 'port to listen on (BOXRUN_PORT)', shownDefault: '9090' },
    socket: {
      type: 'text',
      kind: 'file',
      describe: 'Unix socket to listen on; without --host and --port, the server listens on no port (BOXRUN_SOCKET)',
    },
    'allow-host': {
      type: 'list',
      describe: 'another host name that clients use for this server (BOXRUN_ALLOW_HOSTS); may be repeated',
    },
    token: {
      type: 'text',
      describe: 'token that requests over TCP need; other users of this host can see it, so prefer --token-file',
    },
    'token-file': { type: 'text', kind: 'file', describe: 'file with that token (or set BOXRUN_TOKEN)' },
    'volume-root': {
      type: 'list',
      kind: 'file',
      describe: 'allow volumes only below this directory (BOXRUN_VOLUME_ROOTS); may be repeated',
    },
    gateways: {
      type: 'text',
      describe: 'number of gateways, the processes that answer clients (BOXRUN_GATEWAYS)',
      shownDefault: '1',
    },
    workers: {
      type: 'text',
      describe:
        'MIN[:MAX]: keep MIN spare workers ready; allow at most MAX workers, spare ones included (BOXRUN_WORKERS)',
    },
    driver: {
      type: 'text',
      choices: ['boxlite', 'container'],
      describe: 'how boxes run: as micro-VMs or as containers (BOXRUN_DRIVER)',
      shownDefault: 'boxlite',
    },
    'on-exit': {
      type: 'text',
      choices: ['detach', 'stop'],
      describe: 'what happens to running boxes when the server ends',
      shownDefault: 'detach',
    },
    'log-level': {
      type: 'text',
      choices: ['trace', 'debug', 'info', 'warn', 'error'],
      describe: 'how much is written to the logs',
    },
    'log-format': {
      type: 'text',
      choices: ['json', 'pretty'],
      describe: 'log lines for programs or for people (BOXRUN_LOG_FORMAT)',
      shownDefault: 'json',
    },
    ...capOptions,
  },
  examples: [
    ['serve --port 9191', 'on another port'],
    ['serve --workers 4:40', '4 spare workers, and at most 40 workers'],
  ],
  async run(values) {
    // Takes NOTIFY_SOCKET out of the environment, so that no child process sends messages to systemd for the server.
    // An OCI runtime would do that.
    const notifySocket = takeNotifySocket();
    const config = loadConfig({
      host: values.host,
      port: values.port === undefined ? undefined : parseWhole('port', values.port, 0),
      socket: values.socket,
      allowedHosts: values['allow-host'],
      volumeRoots: values['volume-root'],
      caps: Object.fromEntries(
        capSettings.map(({ setting }) => {
          const text = values[setting];
          return [setting, text === undefined ? undefined : parseWhole(setting, text, 0)];
        }),
      ),
      gateways: values.gateways === undefined ? undefined : parseWhole('gateways', values.gateways, 1),
      workers: values.workers,
      driver: values.driver,
      onExit: values['on-exit'],
      logLevel: values['log-level'],
      logFormat: values['log-format'],
    });
    if (values.token !== undefined) {
      process.stderr.write(
        'boxrun serve: other users of this host can see the token in the arguments; use --token-file\n',
      );
    }
    const { isLoopback } = await import('../../shared/settings/loopback.ts');
    const token = takeToken({ token: values.token, tokenFile: values['token-file'] });
    if (config.tcp !== null && token === null && !isLoopback(config.tcp.host)) {
      throw new BoxRunError(
        'VALIDATION_ERROR',
        `${config.tcp.host} can be reached from other hosts, so the server needs a token`,
        {
          hint: 'use --token-file FILE, or set BOXRUN_TOKEN, or listen on 127.0.0.1',
        },
      );
    }
    return serve(config, token, notifySocket);
  },
});

async function serve(config: Config, token: string | null, notifySocket: string | null): Promise<number> {
  makeStateDirectories(config.stateDir);
  const { probeDriver, runKeeper, tellReady } = await import('../heavy.ts');
  const { createWaitNotice } = await import('../render/waiting.ts');
  const notice = createWaitNotice(`trying the driver ${config.driver}, which may take 20 s`);
  const probe = await probeDriver(config).finally(() => {
    notice.end();
  });
  if (!probe.ok) {
    const retryHint = probe.isKept ? '`boxrun doctor --fresh` tries it again; ' : '';
    throw new BoxRunError(
      'RUNTIME_ERROR',
      `the ${config.driver} driver does not work on this host:\n${list(probe.problems)}`,
      {
        hint:
          config.driver === 'boxlite'
            ? `${retryHint}boxes can run as containers, which are less isolated: boxrun serve --driver container (or BOXRUN_DRIVER=container)`
            : '`boxrun doctor` explains more',
      },
    );
  }
  return runKeeper(config, {
    token,
    onReady(facts) {
      process.stdout.write(describeServer(config, facts, token !== null));
      if (notifySocket !== null) tellReady(notifySocket).catch(reportUnsent);
    },
  });
}

/** If the message does not reach systemd, systemd treats the start as failed and reports that. */
function reportUnsent(error: unknown): void {
  process.stderr.write(`boxrun serve: cannot tell systemd that the server is ready: ${errorText(error)}\n`);
}

function list(problems: readonly string[]): string {
  return problems.map((problem) => `  - ${problem}`).join('\n');
}

function describeServer(config: Config, facts: Readonly<Record<string, unknown>>, hasToken: boolean): string {
  const tcp = facts['tcp'] as { host: string; port: number } | null;
  const host = tcp?.host.includes(':') ? `[${tcp.host}]` : tcp?.host;
  return [
    'BoxRun is ready',
    ...(tcp === null ? [] : [`  listening   http://${host}:${tcp.port}`]),
    ...(config.socketPath === null ? [] : [`  ${tcp === null ? 'listening' : '         '}   ${config.socketPath}`]),
    ...(tcp !== null && hasToken ? ['  token       required over TCP; `boxrun ui` prints a link for a browser'] : []),
    `  driver      ${config.driver}`,
    `  limits      ${config.maxCpu} CPUs, ${config.maxMemoryMb} MiB over all boxes (BOXRUN_MAX_CPU, BOXRUN_MAX_MEMORY_MB)`,
    `  state       ${config.stateDir}`,
    '',
  ].join('\n');
}
