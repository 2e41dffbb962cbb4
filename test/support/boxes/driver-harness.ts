// Makes a driver for one box with its own directories, for tests of any engine, and runs commands in the box. Harnesses
// of a test file can share the images directory, so that an image is prepared once. `dispose` removes the box, but not
// a shared images directory.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pino } from 'pino';
import { newId } from '../../../src/shared/ids.ts';
import { resolveImage } from '../../../src/shared/images/store.ts';
import type {
  BoxSpec,
  CreateDriver,
  Driver,
  DriverContext,
  ExecExit,
  ExecHandle,
  ExecRequest,
} from '../../../src/worker/drivers/driver-contract.ts';

export interface HarnessOverrides {
  /** The name of an image in the images directory. The default is `base`. */
  readonly image?: string;
  readonly imagesDir?: string;
  readonly homeDir?: string;
  readonly instanceId?: string;
  readonly spec?: Partial<Omit<BoxSpec, 'image'>>;
}

export interface Collected {
  readonly exit: ExecExit;
  readonly stdout: string;
  readonly stderr: string;
}

export interface DriverHarness {
  readonly driver: Driver;
  readonly context: DriverContext;
  readonly boxId: string;
  readonly dir: string;
  /** The reasons of all calls of onEngineExit, in order. */
  readonly engineExits: string[];
  /** Resolves with the first reason. */
  readonly engineExit: Promise<string>;
  create(): Promise<void>;
  start(): Promise<void>;
  exec(cmd: readonly string[], request?: Partial<ExecRequest>): Promise<ExecHandle>;
  /** Runs a command to its end. */
  run(cmd: readonly string[], request?: Partial<ExecRequest>): Promise<Collected>;
  /** Makes a new driver for the same box, as a new worker does. */
  successor(create: CreateDriver): DriverHarness;
  dispose(): Promise<void>;
}

/** Makes a temporary directory for a test file. The file has to remove it in afterAll. */
export async function temporaryDir(name: string): Promise<string> {
  return mkdtemp(join(tmpdir(), `boxrun-test-${name}-`));
}

/** Makes the directories and the driver of a new box. Starts nothing. */
export async function createDriverHarness(
  create: CreateDriver,
  overrides: HarnessOverrides = {},
): Promise<DriverHarness> {
  const dir = await temporaryDir('driver');
  const imagesDir = overrides.imagesDir ?? join(dir, 'images');
  const boxId = overrides.spec?.boxId ?? newId('box');
  const spec: BoxSpec = {
    cpu: 1,
    memoryMb: 256,
    diskSizeGb: 1,
    network: false,
    workdir: '/root',
    env: {},
    volumes: [],
    ...overrides.spec,
    boxId,
    image: await resolveImage(imagesDir, overrides.image ?? 'base'),
  };
  const homeDir = overrides.homeDir ?? join(dir, boxId);
  const instanceId = overrides.instanceId ?? newId('inst');
  return bindDriver(create, { spec, homeDir, imagesDir, instanceId }, dir);
}

/** Makes a harness for the box of `place`, which may exist already. */
export function bindDriver(
  create: CreateDriver,
  place: Pick<DriverContext, 'spec' | 'homeDir' | 'imagesDir' | 'instanceId'>,
  dir: string,
): DriverHarness {
  const engineExits: string[] = [];
  let tell: (reason: string) => void = () => undefined;
  const engineExit = new Promise<string>((resolve) => {
    tell = resolve;
  });
  const context: DriverContext = {
    ...place,
    generation: 1,
    volumeRoots: [],
    log: pino({ level: 'silent' }),
    onEngineExit: (reason) => {
      engineExits.push(reason);
      tell(reason);
    },
  };
  const driver = create(context);
  const exec = (cmd: readonly string[], request: Partial<ExecRequest> = {}) =>
    driver.exec({
      execId: newId('exec'),
      env: {},
      workdir: null,
      user: null,
      tty: null,
      stdin: false,
      ...request,
      cmd,
    });
  return {
    driver,
    context,
    boxId: place.spec.boxId,
    dir,
    engineExits,
    engineExit,
    create: async () => {
      await driver.create(() => undefined, new AbortController().signal);
    },
    start: () => driver.start(() => undefined, new AbortController().signal),
    exec,
    run: async (cmd, request) => collect(await exec(cmd, request)),
    successor: (next) => bindDriver(next, place, dir),
    async dispose() {
      await driver.remove();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Reads both streams to their end, and waits for the exit. */
export async function collect(handle: ExecHandle): Promise<Collected> {
  const [stdout, stderr, exit] = await Promise.all([readAll(handle.stdout), readAll(handle.stderr), handle.exit]);
  return { stdout: stdout.toString('utf8'), stderr: stderr.toString('utf8'), exit };
}

export async function readAll(stream: Readable): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of stream as AsyncIterable<Buffer>) parts.push(part);
  return Buffer.concat(parts);
}
