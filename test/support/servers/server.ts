// Runs a real server (`boxrun serve` from dist/) with the container driver, its own state directory and a free port.
// `call` sends plain HTTP over TCP or the Unix socket, and fails if the answer does not fit /openapi.json. `close`
// fails if something is left.
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { request, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createParser } from 'eventsource-parser';
import { expect } from 'vitest';
import { BoxRun, type BoxRunClient } from '../../../src/sdk/index.ts';
import { defaultSocket } from '../../../src/shared/settings/socket-place.ts';
import { statePaths } from '../../../src/shared/settings/state-dir.ts';
import { createConformance, type ApiDocument } from '../api/conformance.ts';
import { eventually } from '../runs/eventually.ts';
import { processesOf } from '../host/processes.ts';
import { startServing, type Serving } from './serving.ts';
import { cacheHome, copyPreparedState } from './prepared-state.ts';

export { cliBundle } from './serving.ts';

export interface Call {
  readonly method?: string;
  readonly path: string;
  /** A string is sent unchanged. Everything else is sent as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly via?: 'tcp' | 'socket';
  readonly signal?: AbortSignal;
  /** True for an answer that does not end. Then only its beginning is read. */
  readonly isEndless?: boolean;
}

export interface JsonBody {
  readonly [field: string]: unknown;
  readonly code?: string;
  readonly message?: string;
  readonly status?: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** The body as JSON. It throws if the body is not JSON. */
  readonly json: JsonBody;
  /** The body as JSON, if it is a list. */
  readonly list: readonly unknown[];
  /** The statuses of interim answers (1xx). */
  readonly interim: readonly number[];
}

export interface TestServer {
  readonly stateDir: string;
  readonly port: number;
  readonly socketPath: string;
  readonly client: BoxRunClient;
  /** The environment with which the command line and other programs find this server. */
  readonly env: NodeJS.ProcessEnv;
  call(call: Call): Promise<Answer>;
  /** Checks an answer that did not come from `call`. @throws when it does not fit /openapi.json */
  check(method: string, path: string, answer: Pick<Answer, 'status' | 'headers' | 'text'>): void;
  /** Ends `serve` in order. --on-exit decides what happens to its boxes. */
  stop(): Promise<void>;
  /** Starts `serve` again. */
  start(): Promise<void>;
  /** Removes every box, ends the server, and asserts that nothing is left. */
  close(): Promise<void>;
}

export interface ServerOptions {
  readonly maxCpu?: number;
  readonly maxMemoryMb?: number;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** A program and its arguments. The program sets limits, for example, and then becomes `boxrun serve` (exec). */
  readonly launcher?: readonly [string, ...string[]];
  /** The path of the state directory below a new temporary directory. */
  readonly stateDirName?: string;
  /**
   * True for an empty state directory, as a new user has it. Otherwise it is a copy of the prepared state
   * (prepared-state.ts).
   */
  readonly isFresh?: boolean;
}

export async function startServer({
  maxCpu = 64,
  maxMemoryMb = 65_536,
  args = [],
  env: extra = {},
  launcher,
  stateDirName = '',
  isFresh = false,
}: ServerOptions = {}): Promise<TestServer> {
  const top = await mkdtemp(join(tmpdir(), 'boxrun-test-'));
  const stateDir = resolve(top, stateDirName);
  if (!isFresh) await prepareStateDir(stateDir);
  const socketPath = defaultSocket(stateDir);
  const env: NodeJS.ProcessEnv = {
    PATH: process.env['PATH'],
    HOME: stateDir,
    XDG_CACHE_HOME: cacheHome,
    BOXRUN_STATE_DIR: stateDir,
    BOXRUN_DRIVER: 'container',
    BOXRUN_MAX_CPU: String(maxCpu),
    BOXRUN_MAX_MEMORY_MB: String(maxMemoryMb),
    ...extra,
  };
  const client = new BoxRun({ socketPath });
  let serving: Serving | null = null;

  async function start(): Promise<void> {
    serving = await startServing({ args: ['--port', '0', '--workers', '1', ...args], env, launcher });
  }

  async function stop(): Promise<void> {
    if (serving === null) return;
    const exitCode = await serving.end();
    serving = null;
    expect(exitCode).toBe(0);
  }

  await start();
  const described = await callHttp({ path: '/openapi.json' }, { socketPath });
  const conformance = createConformance(described.json as unknown as ApiDocument);

  function check(method: string, path: string, answer: Pick<Answer, 'status' | 'headers' | 'text'>): void {
    const complaint = conformance.complaintAt(method, path, answer);
    if (complaint !== null) throw new Error(`the answer to ${method} ${path} is not as described: ${complaint}`);
  }

  return {
    stateDir,
    socketPath,
    client,
    env,
    start,
    stop,
    check,
    get port() {
      return serving?.port ?? 0;
    },
    async call(call) {
      const answer = await callHttp(
        call,
        call.via === 'socket' ? { socketPath } : { host: '127.0.0.1', port: serving?.port ?? 0 },
      );
      check(call.method ?? 'GET', call.path, answer);
      return answer;
    },
    async close() {
      for (const box of await client.listBoxes()) await client.removeBox(box.id, { force: true });
      await client.close();
      await stop();
      // In the VM lab (test/vm/lab) the log is lost with the emulated host, so it is printed.
      if (process.env['BOXRUN_IN_LAB'] !== undefined)
        process.stderr.write(await readFile(join(statePaths(stateDir).logsDir, 'keeper.log'), 'utf8'));
      await eventually('every process of the server is gone', async () => (await processesOf(stateDir)).length === 0);
      const left = {
        boxes: await readdir(join(stateDir, 'boxes')),
        socket: existsSync(socketPath),
        warnings: await warningsIn(statePaths(stateDir).logsDir),
        mounts: (await readFile('/proc/self/mountinfo', 'utf8')).split('\n').filter((line) => line.includes(stateDir)),
      };
      for (const path of [top, statePaths(stateDir).runDir]) await rm(path, { recursive: true, force: true });
      expect(left).toEqual({ boxes: [], socket: false, warnings: [], mounts: [] });
    },
  };
}

async function prepareStateDir(stateDir: string): Promise<void> {
  await mkdir(stateDir, { recursive: true, mode: 0o700 });
  await copyPreparedState(stateDir);
}

/** Finds the warnings of Node in the logs. A leak of listeners, for example, is visible only there. */
async function warningsIn(logsDir: string): Promise<string[]> {
  const logs = await Promise.all((await readdir(logsDir)).map((name) => readFile(join(logsDir, name), 'utf8')));
  return logs
    .join('')
    .split('\n')
    .filter((line) => line.includes('a warning from Node'));
}

type Target = { socketPath: string } | { host: string; port: number };

async function callHttp(
  { method = 'GET', path, body, headers = {}, signal, isEndless = false }: Call,
  target: Target,
): Promise<Answer> {
  const payload = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  const interim: number[] = [];
  const outgoing = request({
    ...target,
    method,
    path,
    agent: false,
    headers: { ...(payload === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(signal === undefined ? {} : { signal }),
  });
  outgoing.on('information', ({ statusCode }) => interim.push(statusCode));
  outgoing.end(payload);
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
  const pieces: Buffer[] = [];
  for await (const piece of incoming) {
    pieces.push(piece as Buffer);
    if (isEndless && incoming.statusCode === 200) break;
  }
  const text = Buffer.concat(pieces).toString('utf8');
  return {
    status: incoming.statusCode ?? 0,
    headers: incoming.headers,
    text,
    get json() {
      return JSON.parse(text) as JsonBody;
    },
    get list() {
      return JSON.parse(text) as unknown[];
    },
    interim,
  };
}

export interface SseMessage {
  readonly id: string | null;
  readonly event: string | null;
  readonly data: string;
}

/** Parses an event stream. Returns only complete messages. */
export function parseSse(text: string): SseMessage[] {
  const messages: SseMessage[] = [];
  const parser = createParser({
    onEvent: ({ id = null, event = null, data }) => messages.push({ id, event, data }),
    onError: (error) => {
      throw error;
    },
  });
  parser.feed(text);
  return messages;
}
