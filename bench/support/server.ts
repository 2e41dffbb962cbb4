// Runs the server under test: `boxrun serve` from dist/ with its own state directory and the container driver, without
// a port by default. With --profile each of its processes writes a CPU profile when it ends.
import { mkdirSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import type { Box } from '../../src/shared/api.ts';
import { loadConfig, type Config } from '../../src/shared/settings/config.ts';
import { errorText } from '../../src/shared/errors.ts';
import { defaultSocket } from '../../src/shared/settings/socket-place.ts';
import { statePaths } from '../../src/shared/settings/state-dir.ts';
import { eventually } from '../../test/support/runs/eventually.ts';
import { processesOf, type Role } from '../../test/support/host/processes.ts';
import { startServing, type Serving } from '../../test/support/servers/serving.ts';
import { callJson, openConnection, type Connection } from './http.ts';
import type { Context } from './measure.ts';
import { places } from './places.ts';

export interface BenchServer {
  readonly stateDir: string;
  readonly socketPath: string;
  /** Milliseconds from the start of the process until the server said that it is ready. */
  readonly startMs: number;
  /** The TCP port, or null if the server listens only on its socket. */
  readonly port: number | null;
  readonly config: Config;
  /** The id with which the server marks everything that it makes on the host. */
  readonly instanceId: string;
  /** A connection for requests that are not measured. */
  readonly admin: Connection;
  createBox(fields?: Readonly<Record<string, unknown>>): Promise<Box>;
  pids(role: Role): Promise<number[]>;
}

export interface ServerOptions {
  readonly args?: readonly string[];
  readonly driver?: 'container' | 'boxlite';
  /** Fills the database before the server starts. */
  readonly seed?: (dbPath: string) => void;
}

export const smallBox = { image: 'base', cpu: 1, memory_mb: 128, disk_size_gb: 1 };

/** Starts a server, lets `use` measure, and removes the server and its state directory. */
export async function withServer<T>(
  context: Context,
  options: ServerOptions,
  use: (server: BenchServer) => Promise<T>,
): Promise<T> {
  const stateDir = await mkdtemp(join(tmpdir(), 'boxrun-bench-'));
  const env: NodeJS.ProcessEnv = {
    PATH: process.env['PATH'],
    HOME: stateDir,
    BOXRUN_STATE_DIR: stateDir,
    BOXRUN_DRIVER: options.driver ?? 'container',
    // Usually not set, so that the server uses its default, as for users.
    BOXRUN_AGENT: process.env['BOXRUN_AGENT'],
    BOXRUN_MAX_CPU: '100000',
    BOXRUN_MAX_MEMORY_MB: '100000000',
    ...profileVariables(context),
  };
  const config = loadConfig({}, env);
  options.seed?.(config.dbPath);
  const socketPath = defaultSocket(stateDir);
  const args = ['--socket', socketPath, ...(options.args ?? [])];
  const startedAt = performance.now();
  const serving = await startServing({ program: join(places.dist, 'cli.cjs'), args, env, readyMs: 120_000 });
  const startMs = performance.now() - startedAt;
  const admin = await openConnection(socketPath);
  try {
    return await use({
      stateDir,
      socketPath,
      startMs,
      port: serving.port,
      config,
      admin,
      instanceId: readInstanceId(config.dbPath),
      createBox: (fields = {}) => callJson<Box>(admin, 'POST', '/v1/boxes', { ...smallBox, ...fields }),
      pids: async (role) => (await processesOf(stateDir)).filter((found) => found.role === role).map(({ pid }) => pid),
    });
  } catch (error) {
    // Printed now, because the end of the server may fail as well and hide this error.
    context.say(`failed: ${errorText(error)}`);
    throw error;
  } finally {
    await end(serving, admin, stateDir);
  }
}

async function end(serving: Serving, admin: Connection, stateDir: string): Promise<void> {
  // A failed benchmark may have left boxes, also boxes in creation.
  const boxes = await callJson<Box[]>(admin, 'GET', '/v1/boxes?limit=1000');
  for (const { id } of boxes) await admin.request('DELETE', `/v1/boxes/${id}?force=true`);
  admin.close();
  await serving.end();
  await eventually(
    'every process of the server is gone',
    async () => (await processesOf(stateDir)).length === 0,
    30_000,
  );
  for (const path of [statePaths(stateDir).runDir, stateDir]) await rm(path, { recursive: true, force: true });
}

/** Waits for spare workers that are ready. A ready spare worker has a state file without a box. */
export async function sparesAreReady({ stateDir }: BenchServer, count: number): Promise<void> {
  const { workersDir } = statePaths(stateDir);
  await eventually(
    'the spare workers are there',
    async () => {
      const files = (await readdir(workersDir)).filter((name) => name.endsWith('.json'));
      const states = await Promise.all(files.map((name) => readFile(join(workersDir, name), 'utf8').catch(() => '')));
      return states.filter((state) => state.includes('"boxId":null')).length >= count;
    },
    120_000,
  );
}

/** Returns the variables with which Node profiles a process and its children. */
export function profileVariables({ profileDir }: Context): Readonly<Record<string, string>> {
  if (profileDir === null) return {};
  mkdirSync(profileDir, { recursive: true });
  return { NODE_OPTIONS: `--import=${places.profiler}`, BENCH_PROFILES: profileDir };
}

function readInstanceId(dbPath: string): string {
  const db = new Database(dbPath, { readonly: true });
  const id = db.prepare(`SELECT value FROM meta WHERE key = 'instance_id'`).pluck().get() as string;
  db.close();
  return id;
}
