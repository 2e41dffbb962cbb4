// Finds out whether this host can run boxes as containers, by a trial: the built-in image, one box, one command. It
// removes the trial's box and images before it returns. `place` itself stays, and the name of the runtime that works,
// in /run, for later starts.
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { BoxRunError, errorText } from '../../../../shared/errors.ts';
import { probeBlock } from '../../../../shared/host/id-ranges.ts';
import { newId } from '../../../../shared/ids.ts';
import { ensureBaseImage } from '../../../../shared/images/base.ts';
import { findBusybox } from '../../../../shared/images/busybox.ts';
import { temporaryDirectory } from '../../../../shared/images/layouts.ts';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import { createBoxDriver } from '../container-box.ts';
import { firstWorkingRuntime, type OciRuntime } from './runtime.ts';
import { findTool, packageOf, type ToolName } from './tools.ts';

export interface ContainerHostReport {
  readonly ok: boolean;
  /** Sentences for the user. There may be some although `ok` is true, for example about network or pulls. */
  readonly problems: string[];
  readonly runtime: string | null;
}

/** Without one of these there are no boxes. */
const needed: readonly ToolName[] = ['umoci', 'unshare', 'mount', 'mkfifo', 'mkfs.ext4', 'tar'];
/** Without these, boxes can do less. */
const optional: ReadonlyArray<readonly [name: ToolName, without: string]> = [
  ['skopeo', 'images cannot be pulled from registries'],
  ['zstd', 'images with layers that are compressed with zstd cannot be used'],
  ['catatonit', 'a shell is the first process of a box'],
  ['slirp4netns', 'boxes with a network cannot start'],
  ['nft', 'boxes with a network cannot start'],
  ['nsenter', 'boxes with a network cannot start'],
];
const trialTimeoutMs = 60_000;

/**
 * Tries the container driver on this host and reports the problems.
 * @param place a directory in the state directory: file systems of one host differ in what they can do for a box
 */
export async function probeContainerHost(place: string = defaultPlace()): Promise<ContainerHostReport> {
  const problems = await missing();
  if (problems.length > 0) return { ok: false, problems, runtime: null };
  for (const [name, without] of optional) {
    if ((await findTool(name)) === null) problems.push(`${name} is missing (package ${packageOf(name)}): ${without}`);
  }
  try {
    let sharedIds: string | null = null;
    const runtime = await firstWorkingRuntime((candidate) =>
      tryRuntime(candidate, place, (reason) => {
        sharedIds = reason;
      }),
    );
    if (sharedIds !== null) {
      problems.push(
        `boxes share one range of ids: one box can use up what the kernel counts per user. ` +
          `Ranges of their own need Linux 5.19 (${String(sharedIds)})`,
      );
    }
    return { ok: true, problems, runtime: runtime.name };
  } catch (error) {
    return { ok: false, problems: [...problems, errorText(error)], runtime: null };
  }
}

async function missing(): Promise<string[]> {
  if (process.getuid?.() !== 0) return ['the container driver needs root: start the server as root'];
  const problems: string[] = [];
  for (const name of needed) {
    if ((await findTool(name)) === null) problems.push(`${name} is missing: install the package ${packageOf(name)}`);
  }
  if ((await findTool('crun')) === null && (await findTool('runc')) === null) {
    problems.push('there is no OCI runtime: install the package crun');
  }
  await findBusybox().catch(() => problems.push('there is no static busybox: install the package busybox-static'));
  return problems;
}

function defaultPlace(): string {
  return join(tmpdir(), 'boxrun-probe');
}

/**
 * Makes a box in the file system of `place`, runs a command in it and removes it.
 * @param onSharedIds called with the reason when the box cannot have its own range of ids
 * @returns null on success, otherwise the problem
 */
export async function tryRuntime(
  runtime: OciRuntime,
  place: string,
  onSharedIds: (reason: string) => void = () => undefined,
): Promise<string | null> {
  const dir = await temporaryDirectory(place, join(place, 'trial'));
  try {
    const imagesDir = join(dir, 'images');
    const image = { kind: 'layout' as const, name: 'base', ...(await ensureBaseImage(imagesDir)) };
    const boxId = newId('box');
    const driver = createBoxDriver(
      {
        spec: {
          boxId,
          image,
          idBlock: probeBlock,
          cpu: 1,
          memoryMb: 64,
          diskSizeGb: 1,
          network: false,
          workdir: '/',
          env: {},
          volumes: [],
        },
        homeDir: join(dir, boxId),
        imagesDir,
        generation: 1,
        instanceId: newId('inst'),
        // Only the warning of the shared ids has a reason.
        log: pino(
          { level: 'warn' },
          {
            write: (line) => {
              const { reason } = JSON.parse(line) as { reason?: unknown };
              if (typeof reason === 'string') onSharedIds(reason);
            },
          },
        ),
        volumeRoots: [],
        onEngineExit: () => undefined,
      },
      { insecureRegistries: [], agent: 'off', runtime: async () => runtime },
    );
    try {
      return await withDeadline(runOnce(driver), trialTimeoutMs, 'the trial box');
    } finally {
      await driver.remove();
    }
  } catch (error) {
    return error instanceof BoxRunError && error.hint !== undefined
      ? `${error.message} (${error.hint})`
      : errorText(error);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function runOnce(driver: ReturnType<typeof createBoxDriver>): Promise<string | null> {
  const { signal } = new AbortController();
  await driver.create(() => undefined, signal);
  await driver.start(() => undefined, signal);
  const handle = await driver.exec({
    execId: newId('exec'),
    cmd: ['true'],
    env: {},
    workdir: '/',
    user: null,
    tty: null,
    stdin: false,
  });
  handle.stdout.resume();
  handle.stderr.resume();
  const exit = await handle.exit;
  return 'exitCode' in exit && exit.exitCode === 0 ? null : `a trial command ended with ${JSON.stringify(exit)}`;
}
