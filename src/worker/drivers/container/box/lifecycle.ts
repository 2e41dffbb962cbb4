// The life of a box on an OCI runtime: create, start, reattach, stop, remove. A create or a start
// succeeds, or it leaves no process of the box behind. A stop, a removal or a takeover that fails may leave some, which
// `killLeftovers` finds later. Removal works from any half-made state. The worker makes one of these calls at a time.
import { rm } from 'node:fs/promises';
import type { Ulimit } from '../../../../shared/api.ts';
import { isAlive } from '../../../../shared/process/child-process.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { faultPoint } from '../../../../shared/faults/fault.ts';
import { limits } from '../../../../shared/limits.ts';
import type { ReportProgress } from '../../driver-contract.ts';
import { bootBox, stopBoxProcesses, makeHome } from './container-boot.ts';
import { createDisk } from '../disk/disk.ts';
import type { ContainerState } from './container-state.ts';
import type { PreparedImage } from '../images/root-images.ts';
import { watchAlive } from './monitor.ts';
import { connectBox } from '../network/network.ts';
import { limitsOfCommands } from '../host/process-limits.ts';
import { loadJson, saveJson, type BoxRecord, type RunState } from './record.ts';
import { findRuntime, type RuntimeName } from '../host/runtime.ts';
import { ensureBoxTools } from '../host/tools.ts';

/**
 * Prepares the image and makes the home and the disk of the box. On failure everything of the box is removed.
 * @throws IMAGE_PULL_FAILED, CANCELED, TIMEOUT, RUNTIME_ERROR
 */
export async function createBox(
  container: ContainerState,
  progress: ReportProgress,
  signal: AbortSignal,
): Promise<{ engineId: string }> {
  const { context, paths, preparer } = container;
  const { spec } = context;
  try {
    const image = await preparer.prepare(spec.image, progress, signal);
    await ensureBoxTools(context.imagesDir);
    faultPoint('worker.create.image-ready');
    await makeHome(spec, paths, context.aheadDir);
    faultPoint('worker.create.home-made');
    const disk = await createDisk(paths, context.imagesDir, spec.diskSizeGb);
    signal.throwIfAborted();
    faultPoint('worker.create.disk-made');
    saveJson(paths.record, { digest: image.digest, disk });
    faultPoint('worker.create.recorded');
    container.markCreated();
    return { engineId: spec.boxId };
  } catch (error) {
    await removeBox(container);
    throw asCanceled(error, signal);
  }
}

/**
 * Starts a box that is created or stopped. On failure no process of the box is left.
 * @throws BOX_ALREADY_RUNNING, CANCELED, TIMEOUT, RUNTIME_ERROR, FORBIDDEN for a volume
 */
export async function startBox(
  container: ContainerState,
  progress: ReportProgress,
  signal: AbortSignal,
): Promise<void> {
  const { context, paths, cgroups, cgroup } = container;
  const { spec } = context;
  if (container.isRunning) throw new BoxRunError('BOX_ALREADY_RUNNING', `the box ${spec.boxId} is running`);
  await container.ensureStopped();
  const record = needRecord(container);
  const image = await imageOf(container, record);
  const tools = await ensureBoxTools(context.imagesDir);
  const runtime = await container.chooseRuntime();
  progress('start', 'starting the box');
  container.markStarting();
  const alive = watchAlive(paths);
  faultPoint('worker.start.prepared');
  // The pipes for commands are made while the box starts.
  const pipes = container.openPipes();
  pipes.catch(() => undefined);
  try {
    const [firstLimits, commandLimits] = await boxLimits(container);
    const boot = {
      spec,
      volumeRoots: context.volumeRoots,
      paths,
      cgroups,
      cgroup,
      runtime,
      tools,
      rootfsDir: image.rootfsDir,
      disk: record.disk,
      limits: firstLimits,
      onSharedIds: (reason: string) => {
        context.log.warn({ reason }, 'the box has no range of ids of its own: it shares one with other boxes');
      },
    };
    const state = await bootBox(boot, signal);
    faultPoint('worker.start.recorded');
    container.markRunning({ state, runtime, image, pipes: await pipes, limits: commandLimits }, alive.arm);
  } catch (error) {
    alive.arm(() => undefined).close();
    await pipes.catch(() => undefined); // Then nothing writes into the home any more.
    await container.killLeftovers();
    throw asCanceled(error, signal);
  }
}

/**
 * Takes over a box that an earlier worker started. If it does not run completely, what is left of it is killed.
 * @throws TIMEOUT, RUNTIME_ERROR
 */
export async function reattachBox(container: ContainerState): Promise<'running' | 'stopped'> {
  const { paths } = container;
  const state = loadJson<RunState>(paths.runState);
  const runtime = state === null ? null : await findRuntime(state.runtime as RuntimeName);
  if (state === null || runtime === null || !(await isAlive(state.init)) || !(await isAlive(state.monitor))) {
    await container.killLeftovers();
    return 'stopped';
  }
  const image = await imageOf(container, needRecord(container));
  const network = await ensureNetwork(container, state);
  const [, commandLimits] = await boxLimits(container);
  const pipes = await container.openPipes();
  container.markRunning(
    { state: { ...state, network }, runtime, image, pipes, limits: commandLimits },
    watchAlive(paths).arm,
  );
  await container.needRunning().exec.agent.adopt();
  return 'running';
}

/** Limits of the first process, and limits of commands. The `ulimits` of a box apply to its commands only. */
async function boxLimits({ context }: ContainerState): Promise<[Ulimit[], Ulimit[]]> {
  return [await limitsOfCommands([]), await limitsOfCommands(context.spec.ulimits ?? [])];
}

/** slirp4netns may have died together with the worker. A box with a network then gets a new one. */
async function ensureNetwork({ context, paths }: ContainerState, state: RunState): Promise<RunState['network']> {
  if (!context.spec.network || (state.network !== null && (await isAlive(state.network)))) return state.network;
  const network = await connectBox(paths, state.init);
  saveJson(paths.runState, { ...state, network });
  return network;
}

/**
 * Asks the processes of the box to end, and kills all after `graceMs` milliseconds. The disk stays.
 * @throws TIMEOUT
 */
export async function stopBox(container: ContainerState, graceMs: number): Promise<void> {
  const current = container.release();
  if (current === null) {
    await container.ensureStopped();
    return;
  }
  faultPoint('worker.stop.released');
  await stopBoxProcesses(current.state, container.cgroups, graceMs);
  await current.exec.agent.ended();
  faultPoint('worker.stop.halted');
  await container.confirmStopped();
}

/**
 * Stops the box and removes everything of it from the host. It may be called again after a failure.
 * @param graceMs in milliseconds, as for `stopBox`
 * @throws TIMEOUT
 */
export async function removeBox(container: ContainerState, graceMs = 0): Promise<void> {
  await stopBox(container, graceMs);
  await container.cgroups.killAll(limits.killTimeoutMs);
  container.cgroups.removeParent();
  faultPoint('worker.remove.quiet');
  // A tool may still make files in the home for a moment after its worker was killed. So this is retried.
  await rm(container.paths.home, { recursive: true, force: true, maxRetries: 10, retryDelay: 10 });
  faultPoint('worker.remove.home-gone');
}

function needRecord({ context, paths }: ContainerState): BoxRecord {
  const record = loadJson<BoxRecord>(paths.record);
  if (record !== null) return record;
  throw new BoxRunError('RUNTIME_ERROR', `the box ${context.spec.boxId} has no disk on this host`);
}

async function imageOf({ context, preparer }: ContainerState, { digest }: BoxRecord): Promise<PreparedImage> {
  const image = await preparer.load(digest);
  if (image !== null) return image;
  throw new BoxRunError('RUNTIME_ERROR', `the image ${digest} of this box is missing in ${context.imagesDir}`);
}

function asCanceled(error: unknown, signal: AbortSignal): unknown {
  if (!signal.aborted || (error instanceof BoxRunError && error.code === 'CANCELED')) return error;
  return new BoxRunError('CANCELED', 'creating or starting the box was canceled', { cause: error });
}
