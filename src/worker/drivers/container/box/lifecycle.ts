// The life of a box on an OCI runtime: made, started, taken over, stopped, removed. Each step either reaches its end or
// leaves nothing running; removal works from any half-made state. Called by box.ts, one call at a time.
import { rm } from 'node:fs/promises';
import type { Ulimit } from '../../../../shared/api.ts';
import { isAlive } from '../../../../shared/process/child-process.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { faultPoint } from '../../../../shared/faults/fault.ts';
import { limits } from '../../../../shared/limits.ts';
import type { ReportProgress } from '../../driver-contract.ts';
import { bootBox, haltBox, makeHome } from './container-boot.ts';
import { createDisk, diskReleased } from '../disk/disk.ts';
import { adopt, openPipes, quieten, release, type Holding } from './holding.ts';
import type { PreparedImage } from '../images/root-images.ts';
import { watchAlive } from './monitor.ts';
import { connectBox } from '../network/network.ts';
import { limitsOfCommands } from '../exec/process-limits.ts';
import { loadJson, saveJson, type BoxRecord, type RunState } from './record.ts';
import { findRuntime, type RuntimeName } from '../host/runtime.ts';
import { ensureBoxTools } from '../host/tools.ts';

export async function createBox(
  holding: Holding,
  progress: ReportProgress,
  signal: AbortSignal,
): Promise<{ engineId: string }> {
  const { context, paths, preparer } = holding;
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
    holding.quiet = true;
    return { engineId: spec.boxId };
  } catch (error) {
    await removeBox(holding);
    throw asCanceled(error, signal);
  }
}

export async function startBox(holding: Holding, progress: ReportProgress, signal: AbortSignal): Promise<void> {
  const { context, paths, cgroups, cgroup } = holding;
  const { spec } = context;
  if (holding.running !== null) throw new BoxRunError('BOX_ALREADY_RUNNING', `the box ${spec.boxId} is running`);
  if (!holding.quiet) await quieten(holding);
  const record = needRecord(holding);
  const image = await imageOf(holding, record);
  const tools = await ensureBoxTools(context.imagesDir);
  const runtime = await holding.runtime();
  progress('start', 'starting the box');
  holding.quiet = false;
  const alive = watchAlive(paths);
  faultPoint('worker.start.prepared');
  // What commands will need is made while the box comes up.
  const pipes = openPipes(holding);
  pipes.catch(() => undefined);
  try {
    const [firstLimits, commandLimits] = await boxLimits(holding);
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
    adopt(holding, { state, runtime, image, pipes: await pipes, limits: commandLimits }, alive.arm);
  } catch (error) {
    alive.arm(() => undefined).close();
    await pipes.catch(() => undefined); // Nothing is made in the home any more.
    await quieten(holding);
    throw asCanceled(error, signal);
  }
}

export async function reattachBox(holding: Holding): Promise<'running' | 'stopped'> {
  const { paths } = holding;
  const state = loadJson<RunState>(paths.runState);
  const runtime = state === null ? null : await findRuntime(state.runtime as RuntimeName);
  if (state === null || runtime === null || !(await isAlive(state.init)) || !(await isAlive(state.monitor))) {
    await quieten(holding);
    return 'stopped';
  }
  const image = await imageOf(holding, needRecord(holding));
  const network = await reconnected(holding, state);
  const [, commandLimits] = await boxLimits(holding);
  adopt(
    holding,
    { state: { ...state, network }, runtime, image, pipes: await openPipes(holding), limits: commandLimits },
    watchAlive(paths).arm,
  );
  return 'running';
}

/** Of the first process, and of commands: what a user limits is theirs. */
async function boxLimits({ context }: Holding): Promise<[Ulimit[], Ulimit[]]> {
  return [await limitsOfCommands([]), await limitsOfCommands(context.spec.ulimits ?? [])];
}

/** Whoever died with the worker may have been slirp4netns: a box that is to have a network gets it back. */
async function reconnected({ context, paths }: Holding, state: RunState): Promise<RunState['network']> {
  if (!context.spec.network || (state.network !== null && (await isAlive(state.network)))) return state.network;
  const network = await connectBox(paths, state.init);
  saveJson(paths.runState, { ...state, network });
  return network;
}

export async function stopBox(holding: Holding, graceMs: number): Promise<void> {
  const current = holding.running;
  if (current === null) {
    if (!holding.quiet) await quieten(holding);
    return;
  }
  release(holding, current);
  faultPoint('worker.stop.released');
  await haltBox(current.state, holding.cgroups, graceMs);
  await current.exec.runner.gone();
  faultPoint('worker.stop.halted');
  await diskReleased(holding.paths, limits.killTimeoutMs);
  await rm(holding.paths.runState, { force: true });
  holding.quiet = true;
}

export async function removeBox(holding: Holding, graceMs = 0): Promise<void> {
  await stopBox(holding, graceMs);
  await holding.cgroups.killAll(limits.killTimeoutMs);
  holding.cgroups.removeParent();
  faultPoint('worker.remove.quiet');
  // A tool of a worker that was killed may be making files in it for its last moment.
  await rm(holding.paths.home, { recursive: true, force: true, maxRetries: 10, retryDelay: 10 });
  faultPoint('worker.remove.home-gone');
}

function needRecord({ context, paths }: Holding): BoxRecord {
  const record = loadJson<BoxRecord>(paths.record);
  if (record !== null) return record;
  throw new BoxRunError('RUNTIME_ERROR', `the box ${context.spec.boxId} has no disk on this host`);
}

async function imageOf({ context, preparer }: Holding, { digest }: BoxRecord): Promise<PreparedImage> {
  const image = await preparer.load(digest);
  if (image !== null) return image;
  throw new BoxRunError(
    'RUNTIME_ERROR',
    `the image ${digest}, of which the box was made, is gone from ${context.imagesDir}`,
  );
}

function asCanceled(error: unknown, signal: AbortSignal): unknown {
  if (!signal.aborted || (error instanceof BoxRunError && error.code === 'CANCELED')) return error;
  return new BoxRunError('CANCELED', 'making the box was canceled', { cause: error });
}
