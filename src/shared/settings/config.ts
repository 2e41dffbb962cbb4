// The settings of one server. A flag wins over an environment variable, and a variable wins over the default. The
// command line makes the Config once; every other process gets it from its parent as JSON and does not read the
// environment again.
import { readFileSync } from 'node:fs';
import { homedir, totalmem, availableParallelism } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { capTable, capVariable, type CapName, type Caps, type CapSetting } from './caps.ts';
import { BoxRunError, errorText } from '../errors.ts';
import { limits } from '../limits.ts';
import { defaultSocket } from './socket-place.ts';

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

export type DriverName = 'boxlite' | 'container';

/**
 * When commands are started by the agent in the box. auto: in micro-VMs, and in containers where control groups of
 * version 1 are mounted; off: never; always: on any host.
 */
export type AgentMode = 'auto' | 'off' | 'always';

export type LogFormat = 'json' | 'pretty';

export interface Config {
  readonly stateDir: string;
  readonly dbPath: string;
  /** The Unix socket for clients. Null only in the second and later gateways: the first one serves it. */
  readonly socketPath: string | null;
  /** The TCP address for clients, or null for none. Port 0: the system chooses a port. */
  readonly tcp: { readonly host: string; readonly port: number } | null;
  /** Host names that requests may contain, besides the server's own names; in lower case. */
  readonly allowedHosts: readonly string[];
  /** Volumes must be below one of these directories. Without any, they may be anywhere. */
  readonly volumeRoots: readonly string[];
  readonly caps: Caps;
  readonly driver: DriverName;
  readonly maxCpu: number;
  readonly maxMemoryMb: number;
  /** Number of gateways. All serve the TCP port, and one of them serves the Unix socket too. */
  readonly gateways: number;
  /** Number of spare workers. */
  readonly spareWorkers: number;
  /** Workers at once, spare ones too. Null: as many as CPUs and memory allow. */
  readonly maxWorkers: number | null;
  /** What happens to running boxes when the server ends. */
  readonly onExit: 'detach' | 'stop';
  readonly logLevel: string;
  readonly logFormat: LogFormat;
  /** Registries that are used over plain http, as host:port. */
  readonly insecureRegistries: readonly string[];
  /** Milliseconds without a supervisor, a command and an open stream until a worker ends itself. Its box goes on. */
  readonly orphanGraceMs: number;
  /** Milliseconds between two sweeps. */
  readonly reconcileEveryMs: number;
  /** Milliseconds without a sign of life until a process is killed and started again. */
  readonly silenceMs: number;
  /** Milliseconds until an idle event stream gets a comment line. */
  readonly sseHeartbeatMs: number;
  /** The directory for runtime files of the BoxLite engine. Null: the engine's own default. */
  readonly boxliteRuntimeDir: string | null;
  readonly agent: AgentMode;
}

/** The values of flags. For an undefined one, the environment counts. */
export interface ConfigFlags {
  stateDir?: string | undefined;
  host?: string | undefined;
  port?: number | undefined;
  allowedHosts?: readonly string[] | undefined;
  volumeRoots?: readonly string[] | undefined;
  caps?: Readonly<Partial<Record<CapSetting, number | undefined>>> | undefined;
  socket?: string | undefined;
  driver?: string | undefined;
  gateways?: number | undefined;
  /** MIN or MIN:MAX. */
  workers?: string | undefined;
  onExit?: string | undefined;
  logLevel?: string | undefined;
  logFormat?: string | undefined;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Makes the settings from flags and environment.
 * @throws VALIDATION_ERROR naming the flag or variable that has a wrong value
 */
export function loadConfig(flags: ConfigFlags = {}, environment: Environment = process.env): Config {
  // An empty variable counts as not set, as in a shell's ${NAME:-default}.
  const env = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const stateDir = resolve(flags.stateDir ?? env['BOXRUN_STATE_DIR'] ?? join(homedir(), '.boxrun'));
  const tcpAsked = flags.host !== undefined || flags.port !== undefined;
  const socketOnly = flags.socket !== undefined && !tcpAsked;
  return {
    stateDir,
    dbPath: resolve(env['BOXRUN_DB'] ?? join(stateDir, 'boxrun.db')),
    socketPath: resolve(flags.socket ?? env['BOXRUN_SOCKET'] ?? defaultSocket(stateDir)),
    tcp: socketOnly
      ? null
      : {
          host: flags.host ?? env['BOXRUN_HOST'] ?? '127.0.0.1',
          port: wholeFlag('--port', flags.port, 0, 65_535) ?? whole(env, 'BOXRUN_PORT', 9090, 0, 65_535),
        },
    allowedHosts: (given(flags.allowedHosts) ?? list(env['BOXRUN_ALLOW_HOSTS'], ',')).map(hostName),
    volumeRoots: (given(flags.volumeRoots) ?? list(env['BOXRUN_VOLUME_ROOTS'], delimiter)).map((path) => resolve(path)),
    caps: readCaps(flags.caps ?? {}, env),
    driver: driverName(flags.driver ?? env['BOXRUN_DRIVER'] ?? 'boxlite'),
    maxCpu: whole(env, 'BOXRUN_MAX_CPU', availableParallelism(), 1, 2 ** 31),
    maxMemoryMb: whole(env, 'BOXRUN_MAX_MEMORY_MB', Math.floor(totalmem() / 2 ** 20), 1, 2 ** 31),
    gateways: gatewayCount(flags.gateways, env, socketOnly),
    ...workerNumbers(flags.workers, env),
    onExit: exitChoice(flags.onExit ?? env['BOXRUN_ON_EXIT'] ?? 'detach'),
    logLevel: logLevel(flags.logLevel ?? env['BOXRUN_LOG_LEVEL'] ?? 'info'),
    logFormat: logFormat(flags.logFormat ?? env['BOXRUN_LOG_FORMAT'] ?? 'json'),
    insecureRegistries: list(env['BOXRUN_INSECURE_REGISTRIES'], ','),
    orphanGraceMs: whole(env, 'BOXRUN_ORPHAN_GRACE_MS', limits.orphanGraceMs, 0, 2 ** 31 - 1),
    reconcileEveryMs: whole(env, 'BOXRUN_RECONCILE_MS', limits.reconcileEveryMs, 1, 2 ** 31 - 1),
    silenceMs: whole(
      env,
      'BOXRUN_SILENCE_MS',
      limits.silenceMs,
      limits.heartbeatEveryMs * limits.heartbeatDoubtMisses,
      2 ** 31 - 1,
    ),
    sseHeartbeatMs: sseHeartbeat(env),
    boxliteRuntimeDir: env['BOXLITE_RUNTIME_DIR'] ?? null,
    agent: agentMode(env['BOXRUN_AGENT'] ?? env['BOXRUN_RUNNER'] ?? 'auto'),
  };
}

/** The token itself, or the path of a file that contains it. */
export interface TokenFlags {
  readonly token?: string | undefined;
  readonly tokenFile?: string | undefined;
}

/**
 * The token that TCP requests need, or null: from the flags, else from BOXRUN_TOKEN. The variable is removed from the
 * environment, so that child processes do not inherit it. The token is not in Config, because every process gets that.
 * @throws VALIDATION_ERROR if the text cannot be a token, RUNTIME_ERROR if its file cannot be read
 */
export function takeToken({ token, tokenFile }: TokenFlags = {}, env: NodeJS.ProcessEnv = process.env): string | null {
  const variable = env['BOXRUN_TOKEN'];
  delete env['BOXRUN_TOKEN'];
  if (token !== undefined && tokenFile !== undefined) {
    throw new BoxRunError('VALIDATION_ERROR', 'give --token or --token-file, not both');
  }
  if (token !== undefined) return checkedToken(token, '--token');
  if (tokenFile !== undefined) return checkedToken(readTokenFile(tokenFile), tokenFile);
  return variable === undefined || variable === '' ? null : checkedToken(variable, 'BOXRUN_TOKEN');
}

/**
 * The socket at which systemd waits for the message that the server is ready (sd_notify(3)), or null. The variable is
 * removed from the environment, so that child processes do not inherit it.
 */
export function takeNotifySocket(env: NodeJS.ProcessEnv = process.env): string | null {
  const socket = env['NOTIFY_SOCKET'] ?? '';
  delete env['NOTIFY_SOCKET'];
  return socket === '' ? null : socket;
}

/** The token that a client sends to the server, or null. */
export function clientToken(env: Environment = process.env): string | null {
  const token = env['BOXRUN_TOKEN'] ?? '';
  return token === '' ? null : token;
}

/**
 * The address at which a client finds the server: BOXRUN_SOCKET if it is set, else the TCP address if BOXRUN_HOST or
 * BOXRUN_PORT is set, else the socket of the state directory.
 */
export function serverAddress(
  config: Config,
  env: Environment = process.env,
): { socketPath: string } | { host: string; port: number } {
  const isSet = (name: string) => (env[name] ?? '') !== '';
  if (!isSet('BOXRUN_SOCKET') && (isSet('BOXRUN_HOST') || isSet('BOXRUN_PORT')) && config.tcp !== null)
    return config.tcp;
  return { socketPath: config.socketPath ?? defaultSocket(config.stateDir) };
}

/** The environment for a server that a client starts: the same settings, with absolute paths. */
export function serverEnvironment(config: Config, env: Environment = process.env): NodeJS.ProcessEnv {
  return {
    ...env,
    NOTIFY_SOCKET: undefined, // It belongs to a service in which the client may run, not to this server.
    BOXRUN_STATE_DIR: config.stateDir,
    BOXRUN_DB: config.dbPath,
    ...(config.socketPath === null ? {} : { BOXRUN_SOCKET: config.socketPath }),
  };
}

function readTokenFile(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw new BoxRunError('RUNTIME_ERROR', `the file of the token cannot be read: ${errorText(error)}`);
  }
}

/** The error names the source of the token, never the token. */
function checkedToken(token: string, source: string): string {
  const { tokenLengthLeast: least, tokenLengthMost: most } = limits;
  if (token.length >= least && token.length <= most && /^[\x21-\x7e]+$/.test(token)) return token;
  throw new BoxRunError(
    'VALIDATION_ERROR',
    `the token of ${source} must have ${least} to ${most} visible ASCII characters, without blanks`,
    {
      hint: 'make one with: head -c 24 /dev/urandom | base64',
    },
  );
}

function readCaps(flags: NonNullable<ConfigFlags['caps']>, env: Environment): Caps {
  const caps = Object.entries(capTable).map(([name, { setting, defaultValue, least, most }]) => [
    name,
    wholeFlag(`--${setting}`, flags[setting], least, most) ??
      whole(env, capVariable(setting), defaultValue, least, most),
  ]);
  return Object.fromEntries(caps) as Record<CapName, number>;
}

function gatewayCount(flag: number | undefined, env: Environment, socketOnly: boolean): number {
  const most = limits.gatewaysMax;
  const count = wholeFlag('--gateways', flag, 1, most) ?? whole(env, 'BOXRUN_GATEWAYS', 1, 1, most);
  if (count === 1 || !socketOnly) return count;
  throw new BoxRunError(
    'VALIDATION_ERROR',
    `${count} gateways share a TCP port, and with --socket alone there is none`,
    {
      hint: 'give --port too, or leave --gateways out',
    },
  );
}

/** Reads `MIN` or `MIN:MAX`: MIN spare workers, and MAX workers in total. */
function workerNumbers(flag: string | undefined, env: Environment): Pick<Config, 'spareWorkers' | 'maxWorkers'> {
  const name = flag === undefined ? 'BOXRUN_WORKERS' : '--workers';
  const [min = '', max, ...more] = (flag ?? env['BOXRUN_WORKERS'] ?? String(availableParallelism())).split(':');
  if (more.length > 0) {
    throw new BoxRunError('VALIDATION_ERROR', `${name} has more than two numbers`, {
      hint: 'write MIN, or MIN:MAX, as in 2:20',
    });
  }
  const spareWorkers = wholeNumber(name, min, 0, 1024);
  return {
    spareWorkers,
    maxWorkers:
      max === undefined ? null : wholeNumber(`${name}, after the colon,`, max, Math.max(spareWorkers, 1), 2 ** 31),
  };
}

function hostName(text: string): string {
  if (/^(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])$/i.test(text)) return text.toLowerCase();
  throw new BoxRunError('VALIDATION_ERROR', `'${text}' is not a valid host name (--allow-host, BOXRUN_ALLOW_HOSTS)`, {
    hint: 'write the name alone, without scheme and port, as in box.example',
  });
}

function list(text: string | undefined, separator: string): string[] {
  return (text ?? '').split(separator).filter((item) => item !== '');
}

/** The values of a flag that may be repeated, or undefined if it was not given. */
function given(values: readonly string[] | undefined): readonly string[] | undefined {
  return values?.length === 0 ? undefined : values;
}

function whole(env: Environment, name: string, defaultValue: number, least: number, most: number): number {
  const text = env[name];
  return text === undefined ? defaultValue : wholeNumber(name, text, least, most);
}

function wholeFlag(name: string, value: number | undefined, least: number, most: number): number | undefined {
  return value === undefined ? undefined : wholeNumber(name, String(value), least, most);
}

function wholeNumber(name: string, text: string, least: number, most: number): number {
  const value = text === '' ? NaN : Number(text);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new BoxRunError('VALIDATION_ERROR', `${name} is '${text}'; it must be a whole number from ${least} to ${most}`);
}

function sseHeartbeat(env: Environment): number {
  const { sseHeartbeatMs, sseHeartbeatMsLeast: least, sseHeartbeatMsMost: most } = limits;
  return whole(env, 'BOXRUN_SSE_HEARTBEAT_MS', sseHeartbeatMs, least, most);
}

function logLevel(value: string): string {
  if (logLevels.includes(value)) return value;
  throw new BoxRunError('VALIDATION_ERROR', `there is no log level '${value}'`, {
    hint: `use ${logLevels.join(', ')}`,
  });
}

function logFormat(value: string): LogFormat {
  if (value === 'json' || value === 'pretty') return value;
  throw new BoxRunError('VALIDATION_ERROR', `there is no log format '${value}'`, { hint: 'use json or pretty' });
}

function driverName(value: string): DriverName {
  if (value === 'boxlite' || value === 'container') return value;
  throw new BoxRunError('VALIDATION_ERROR', `there is no driver '${value}'`, { hint: 'use boxlite or container' });
}

function agentMode(value: string): AgentMode {
  if (value === 'auto' || value === 'off' || value === 'always') return value;
  throw new BoxRunError('VALIDATION_ERROR', `BOXRUN_AGENT is '${value}'`, { hint: 'use auto, off or always' });
}

function exitChoice(value: string): 'detach' | 'stop' {
  if (value === 'detach' || value === 'stop') return value;
  throw new BoxRunError('VALIDATION_ERROR', `on-exit is '${value}'; it must be detach or stop`);
}
