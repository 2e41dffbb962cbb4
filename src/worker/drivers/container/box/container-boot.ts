// Starts and stops one box: its home, configuration, control groups, monitor, network, and the record of its processes.
// After a failure, processes may be left for the caller to kill. Small files are written with synchronous calls: a
// thread of the pool takes ten times as long.
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Ulimit } from '../../../../shared/api.ts';
import {
  hasTerminal,
  isAlive,
  killAndWait,
  killQuietly,
  type ProcessIdentity,
} from '../../../../shared/process/child-process.ts';
import { BoxRunError, errorText } from '../../../../shared/errors.ts';
import { faultPoint } from '../../../../shared/faults/fault.ts';
import { resolveHostPath } from '../../../../shared/host/host-paths.ts';
import { rangeOf, sharedRange } from '../../../../shared/host/id-ranges.ts';
import { limits } from '../../../../shared/limits.ts';
import type { BoxSpec } from '../../driver-contract.ts';
import { aheadPaths, takeAhead } from '../host/ahead.ts';
import { hostnameOf, ociConfig, type BundleOptions } from './bundle.ts';
import type { BoxCgroups } from '../host/cgroups.ts';
import { diskReleased, type Disk } from '../disk/disk.ts';
import { stagedEtcDir, stagedUserNamespace, startMonitor, type RunningBox } from './monitor.ts';
import { connectBox, isBlocked } from '../network/network.ts';
import type { BoxPaths } from '../paths.ts';
import { ociText } from '../host/process-limits.ts';
import { saveJson, type RunState } from './record.ts';
import { boxResolver, readHostResolver } from '../network/resolver.ts';
import type { OciRuntime } from '../host/runtime.ts';
import { expectMounted } from '../disk/volume-mounts.ts';
import { mustRun, type BoxTools } from '../host/tools.ts';

const stopPollMs = 2;
const fifoTimeoutMs = 10_000;

export interface BootOptions {
  readonly spec: BoxSpec;
  readonly volumeRoots: readonly string[];
  readonly paths: BoxPaths;
  readonly cgroups: BoxCgroups;
  readonly cgroup: string;
  readonly runtime: OciRuntime;
  readonly tools: BoxTools;
  readonly rootfsDir: string;
  readonly disk: Disk;
  /** Limits of the first process. Commands have their own. */
  readonly limits: readonly Ulimit[];
  /** Called with the reason when the box must share its range of ids with other boxes. */
  readonly onSharedIds: (reason: string) => void;
}

/**
 * Makes the directories and files of a new home, and the FIFO that shows the monitor's death (monitor.ts). If
 * `aheadDir` has a FIFO, that one is used.
 */
export async function makeHome(spec: BoxSpec, paths: BoxPaths, aheadDir?: string): Promise<void> {
  mkdirSync(paths.home, { recursive: true, mode: 0o700 });
  chmodSync(paths.home, 0o700);
  for (const dir of [paths.bundle, paths.etc, paths.run, paths.execs]) mkdirSync(dir, { recursive: true, mode: 0o755 });
  const host = hostnameOf(spec);
  writeFileSync(join(paths.etc, 'hosts'), `127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t${host}\n`);
  writeFileSync(join(paths.etc, 'hostname'), `${host}\n`);
  writeFileSync(join(paths.etc, 'resolv.conf'), spec.network ? boxResolver(readHostResolver(), isBlocked) : '');
  if (aheadDir !== undefined && (await takeAhead(aheadPaths(aheadDir).alive, paths.alive))) return;
  rmSync(paths.alive, { force: true });
  await mustRun('mkfifo', ['-m', '600', paths.alive], { timeoutMs: fifoTimeoutMs });
}

/**
 * Starts the box from its home and its disk.
 * @throws RUNTIME_ERROR, TIMEOUT, CANCELED, FORBIDDEN when a volume is not below one of the allowed directories
 */
export async function bootBox(options: BootOptions, signal: AbortSignal): Promise<RunState> {
  const { spec, volumeRoots, paths, runtime } = options;
  const hostPaths = await Promise.all(spec.volumes.map(({ host_path: path }) => resolveHostPath(path, volumeRoots)));
  const running = await startProcesses(options, signal);
  // Without volume roots every directory is allowed, so there is nothing to check.
  if (volumeRoots.length > 0) await expectMounted(running.init.pid, hostPaths);
  faultPoint('worker.start.init-up');
  const network = spec.network ? await connectBox(paths, running.init) : null;
  if (signal.aborted) throw new BoxRunError('CANCELED', 'the start of the box was canceled');
  const state: RunState = { ...running, network, runtime: runtime.name };
  saveJson(paths.runState, state);
  return state;
}

/**
 * Starts the monitor, and tries again with the shared range of ids, or without mapped ids for one volume, if the host
 * cannot do it. Only a trial shows which volumes are on a file system that cannot map ids. Those are mounted with the
 * host's ids, so their files belong to nobody.
 */
async function startProcesses(
  options: BootOptions,
  signal: AbortSignal,
): Promise<RunningBox & { readonly rootId: number }> {
  const { spec, paths, cgroups, runtime, tools, disk, rootfsDir } = options;
  const unmapped = new Set<string>();
  let ownIds = ownIdsOf(options);
  for (;;) {
    rmSync(paths.runtimeRoot, { recursive: true, force: true });
    cgroups.prepare();
    const shift = ownIds === null ? sharedRange : rangeOf(ownIds.block);
    writeConfig(options, unmapped, { shift, userNamespace: ownIds === null ? null : stagedUserNamespace });
    try {
      const running = await startMonitor({ boxId: spec.boxId, paths, runtime, tools, rootfsDir, disk, ownIds }, signal);
      return { ...running, rootId: shift.base };
    } catch (error) {
      if (ownIds !== null && errorText(error).includes(noOwnIds)) {
        options.onSharedIds(errorText(error));
        ownIds = null;
        await diskReleased(paths, limits.killTimeoutMs);
        continue;
      }
      const path = /mount_setattr `([^`]+)`/.exec(errorText(error))?.[1];
      if (path === undefined || unmapped.has(path) || !spec.volumes.some((volume) => volume.host_path === path))
        throw error;
      unmapped.add(path);
      await diskReleased(paths, limits.killTimeoutMs);
    }
  }
}

/** The error text of ranges.c begins with these words. */
const noOwnIds = 'no ids of its own for the box';

function ownIdsOf({ spec, tools, onSharedIds }: BootOptions): { program: string; block: number } | null {
  const block = spec.idBlock ?? null;
  if (block === null) return null;
  if (tools.hostProgram !== null) return { program: tools.hostProgram, block };
  onSharedIds('the program that makes ranges of ids was not built');
  return null;
}

function writeConfig(
  { spec, paths, cgroup, runtime, tools, limits: processLimits }: BootOptions,
  unmapped: ReadonlySet<string>,
  ids: Pick<BundleOptions, 'shift' | 'userNamespace'>,
): void {
  const config = ociConfig({
    spec,
    cgroup,
    toolsDir: tools.dir,
    etcDir: stagedEtcDir,
    initArgs: tools.initArgs,
    ...ids,
    limits: processLimits,
    mapsVolume: (hostPath) => runtime.mapsVolumes && !unmapped.has(hostPath),
  });
  writeFileSync(join(paths.bundle, 'config.json'), ociText(config), { mode: 0o600 });
}

/**
 * Asks every process except the first one to end, and kills all after `graceMs` milliseconds. Resolves when no process
 * of the box is alive.
 * @throws TIMEOUT
 */
export async function stopBoxProcesses(state: RunState, cgroups: BoxCgroups, graceMs: number): Promise<void> {
  cgroups.thaw();
  const others = () => cgroups.pids().filter((pid) => pid !== state.init.pid);
  if (graceMs > 0) {
    await Promise.all(others().map(askToEnd));
    const deadline = Date.now() + graceMs;
    while (others().length > 0 && Date.now() < deadline) await delay(stopPollMs);
  }
  cgroups.thaw();
  // The kernel kills everything in a pid namespace whose first process has died.
  await killAndWait(state.init, limits.killTimeoutMs, 'the first process of the box');
  await stopMonitor(state.monitor);
  await cgroups.killAll(limits.killTimeoutMs);
  if (state.network !== null) await killAndWait(state.network, limits.killTimeoutMs, 'the network of the box');
}

/** An interactive shell ignores TERM and ends with HUP. A stopped process takes no signal before CONT. */
async function askToEnd(pid: number): Promise<void> {
  if (await hasTerminal(pid)) killQuietly(pid, 'SIGHUP');
  killQuietly(pid, 'SIGTERM');
  killQuietly(pid, 'SIGCONT');
}

/** The monitor cleans up and ends by itself. It is killed only when it takes too long. */
async function stopMonitor(monitor: ProcessIdentity): Promise<void> {
  const deadline = Date.now() + limits.killTimeoutMs;
  while ((await isAlive(monitor)) && Date.now() < deadline) await delay(stopPollMs);
  await killAndWait(monitor, limits.killTimeoutMs, 'the monitor of the box');
}
