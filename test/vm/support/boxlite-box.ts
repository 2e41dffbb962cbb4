// A box on the BoxLite driver for tests. It makes images, collects the logs and reported ends of the driver, and runs
// commands to their end. driver-child.ts, a process that the test kills, uses this file too, so it must not
// import vitest.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, symlinkSync, writeFileSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { pino } from 'pino';
import type { ImageSource } from '../../../src/shared/images/source.ts';
import { beginLayout, finishLayout, writeBlob } from '../../../src/shared/images/oci-layout.ts';
import { createBoxliteDriver, type BoxliteOptions } from '../../../src/worker/drivers/boxlite/boxlite-driver.ts';
import type {
  BoxSpec,
  Driver,
  ExecExit,
  ExecHandle,
  ExecRequest,
} from '../../../src/worker/drivers/driver-contract.ts';

const applets = [
  'sh',
  'ls',
  'cat',
  'echo',
  'env',
  'sleep',
  'true',
  'df',
  'id',
  'kill',
  'seq',
  'head',
  'setsid',
  'nohup',
  'ps',
  'wc',
  'stty',
  'md5sum',
  'yes',
  'mkdir',
  'sync',
  'grep',
  'dd',
  'wget',
  'usleep',
];

export function stateDir(): string {
  return mkdtempSync(join(tmpdir(), 'boxrun-vm-'));
}

/** Makes an image of a static busybox: with a shell and its tools, or with only /tool/busybox. */
export async function makeImage(dir: string, kind: 'shell' | 'bare'): Promise<ImageSource> {
  const root = join(dir, `${kind}-root`);
  for (const name of ['bin', 'tool', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp'])
    mkdirSync(join(root, name), { recursive: true });
  const folder = join(root, kind === 'shell' ? 'bin' : 'tool');
  copyFileSync('/bin/busybox', join(folder, 'busybox'));
  if (kind === 'shell') for (const applet of applets) symlinkSync('busybox', join(folder, applet));
  writeFileSync(join(root, 'etc', 'passwd'), 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n');
  writeFileSync(join(root, 'etc', 'group'), 'root:x:0:\nuser:x:1000:\n');
  const tarFile = join(dir, `${kind}.tar`);
  execFileSync('tar', ['-C', root, '--owner=0', '--group=0', '--numeric-owner', '-cf', tarFile, '.']);
  const layoutDir = join(dir, kind);
  await beginLayout(layoutDir);
  const layer = await writeBlob(layoutDir, 'application/vnd.oci.image.layer.v1.tar', readFileSync(tarFile));
  const digest = await finishLayout(layoutDir, [layer], [layer.digest], ['PATH=/bin', 'FROM_IMAGE=yes']);
  return { kind: 'layout', name: kind, layoutDir, digest };
}

export interface TestBox {
  readonly driver: Driver;
  readonly homeDir: string;
  /** The reasons that onEngineExit got. */
  readonly exits: string[];
  readonly logs: string[];
}

export function makeBox(
  dir: string,
  boxId: string,
  image: ImageSource,
  more: Partial<BoxSpec> = {},
  { insecureRegistries = [], agent = 'auto', generation = 1 }: Partial<BoxliteOptions> & { generation?: number } = {},
): TestBox {
  const exits: string[] = [];
  const logs: string[] = [];
  const homeDir = join(dir, 'boxes', boxId);
  const spec: BoxSpec = {
    boxId,
    image,
    cpu: 1,
    memoryMb: 256,
    diskSizeGb: 1,
    network: false,
    workdir: '/root',
    env: {},
    volumes: [],
    ...more,
  };
  const log = pino({ level: 'debug' }, { write: (line: string) => void logs.push(line) });
  const driver = createBoxliteDriver(
    {
      spec,
      homeDir,
      imagesDir: join(dir, 'images'),
      volumeRoots: [],
      generation,
      instanceId: 'inst_test',
      log,
      onEngineExit: (reason) => void exits.push(reason),
    },
    { insecureRegistries, runtimeDir: null, agent },
  );
  return { driver, homeDir, exits, logs };
}

export async function createAndStart({ driver }: TestBox): Promise<string> {
  const { signal } = new AbortController();
  await driver.prepareImage(() => undefined, signal);
  const { engineId } = await driver.create(() => undefined, signal);
  await driver.start(() => undefined, signal);
  return engineId;
}

let execCount = 0;

export function request(cmd: readonly string[], more: Partial<ExecRequest> = {}): ExecRequest {
  execCount += 1;
  return {
    execId: `exec_${process.pid}_${execCount}`,
    cmd,
    env: {},
    workdir: null,
    user: null,
    tty: null,
    stdin: false,
    ...more,
  };
}

export interface Ended {
  readonly exit: ExecExit;
  readonly stdout: string;
  readonly stderr: string;
}

export async function finish(handle: ExecHandle): Promise<Ended> {
  const [stdout, stderr, exit] = await Promise.all([text(handle.stdout), text(handle.stderr), handle.exit]);
  return { exit, stdout, stderr };
}

export async function run(
  { driver }: TestBox,
  cmd: readonly string[],
  more: Partial<ExecRequest> = {},
): Promise<Ended> {
  return finish(await driver.exec(request(cmd, more)));
}
