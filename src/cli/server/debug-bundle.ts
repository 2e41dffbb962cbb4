// The contents of a debug bundle. If one part fails (the server is down, the database is damaged), the bundle holds the
// error in its place and the other parts are complete. Fields are picked by name, so that environment variables,
// labels, command lines and volumes never get into a bundle.
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { request } from 'node:http';
import { release } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { serverAddress, type Config } from '../../shared/settings/config.ts';
import { errorText } from '../../shared/errors.ts';
import { packTar, type TarFile } from '../../shared/images/tar.ts';
import { limits } from '../../shared/limits.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import type { Exec } from '../../shared/api.ts';

/** Bytes from the end of each log, and newest commands of each box, that go into a debug bundle. */
const bundleLogBytesMax = 2 * 1024 * 1024;
const bundleExecsMax = 200;

const boxFields = [
  'id',
  'name',
  'status',
  'state',
  'generation',
  'driver',
  'image',
  'cpu',
  'memory_mb',
  'disk_size_gb',
  'network',
  'ephemeral',
  'boxlite_id',
  'error_code',
  'error_message',
  'created_at',
  'started_at',
  'stopped_at',
] as const satisfies readonly (keyof BoxRow)[];
const execFields = [
  'id',
  'box_id',
  'status',
  'exit_code',
  'error_message',
  'timeout_ms',
  'created_at',
  'finished_at',
] as const satisfies readonly (keyof Exec)[];
const settingFields = [
  'stateDir',
  'dbPath',
  'socketPath',
  'tcp',
  'driver',
  'maxCpu',
  'maxMemoryMb',
  'spareWorkers',
  'onExit',
  'logLevel',
  'logFormat',
  'orphanGraceMs',
] as const satisfies readonly (keyof Config)[];

/**
 * Packs the bundle in memory, as a tar.gz.
 * @param version of boxrun
 * @param doctor gives the findings of `boxrun doctor`
 */
export async function packBundle(config: Config, version: string, doctor: () => Promise<unknown>): Promise<Buffer> {
  const parts: Readonly<Record<string, () => Promise<unknown>>> = {
    'versions.json': () => versions(version),
    'settings.json': async () => pick(config, settingFields),
    'doctor.json': doctor,
    'states.json': () => states(config.dbPath),
    'processes.json': () => processes(config),
    'readyz.json': async () => JSON.parse(await getFromServer(config, '/readyz')) as unknown,
    'metrics.txt': () => getFromServer(config, '/metrics'),
  };
  const files = await Promise.all(
    Object.entries(parts).map(async ([path, make]): Promise<TarFile> => {
      const value = await make().catch((error: unknown) => ({ missing: errorText(error) }));
      const text = typeof value === 'string' ? value : `${JSON.stringify(value, null, 2)}\n`;
      return file(path, Buffer.from(text));
    }),
  );
  return gzipSync(packTar([...files, ...(await logs(statePaths(config.stateDir).logsDir))]));
}

function file(path: string, content: Buffer): TarFile {
  return { path: `boxrun-debug/${path}`, mode: 0o600, type: 'file', content };
}

function pick<T extends object>(from: T, fields: readonly (keyof T)[]): Partial<T> {
  return Object.fromEntries(fields.map((field) => [field, from[field]])) as Partial<T>;
}

async function versions(boxrun: string): Promise<unknown> {
  const distribution = await readFile('/etc/os-release', 'utf8').then(
    (text) => /^PRETTY_NAME="?([^"\n]*)/m.exec(text)?.[1] ?? null,
    () => null,
  );
  return {
    boxrun,
    node: process.version,
    arch: process.arch,
    kernel: release(),
    distribution,
    sqlite: process.versions['sqlite'] ?? null,
  };
}

async function states(dbPath: string): Promise<unknown> {
  const { openReader } = await import('../../shared/store/reader.ts');
  const reader = openReader(dbPath);
  try {
    return reader.boxRows().map((row) => ({
      ...pick(row, boxFields),
      execs: reader.execs(row.id, { limit: bundleExecsMax, after: null }).rows.map((exec) => pick(exec, execFields)),
    }));
  } finally {
    reader.close();
  }
}

/** The process files of this server, each with what /proc says of its process; null if there is no such process. */
async function processes(config: Config): Promise<unknown> {
  const { runDir, workersDir } = statePaths(config.stateDir);
  const named = async (dir: string) =>
    (await readdir(dir)).filter((name) => name.endsWith('.json')).map((name) => join(dir, name));
  return Promise.all(
    [...(await named(runDir)), ...(await named(workersDir))].map(async (path) => {
      const recorded = JSON.parse(await readFile(path, 'utf8')) as { pid: number };
      const status = await readFile(`/proc/${recorded.pid}/status`, 'utf8').catch(() => '');
      const found = Object.fromEntries(
        [...status.matchAll(/^(Name|State|Threads|VmRSS|FDSize):\s*(.*)$/gm)].map(
          ([, key = '', value = '']) => [key, value] as const,
        ),
      );
      return { ...recorded, found: status === '' ? null : found };
    }),
  );
}

function getFromServer(config: Config, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { ...serverAddress(config), path, agent: false, signal: AbortSignal.timeout(limits.healthTimeoutMs * 3) },
      (response) => {
        const pieces: Buffer[] = [];
        response.on('data', (piece: Buffer) => pieces.push(piece));
        response.on('error', reject);
        response.on('end', () => {
          resolve(Buffer.concat(pieces).toString('utf8'));
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end();
  });
}

async function logs(dir: string): Promise<TarFile[]> {
  const names = await readdir(dir).catch(() => []);
  return Promise.all(
    names
      .filter((name) => name.endsWith('.log'))
      .map(async (name) =>
        file(
          `logs/${name}`,
          await tailOf(join(dir, name)).catch((error: unknown) => Buffer.from(`${errorText(error)}\n`)),
        ),
      ),
  );
}

async function tailOf(path: string): Promise<Buffer> {
  const { size } = await stat(path);
  const handle = await open(path);
  try {
    const length = Math.min(size, bundleLogBytesMax);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, size - length);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}
