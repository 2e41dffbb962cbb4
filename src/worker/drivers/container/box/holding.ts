// What this worker holds of its box: the fixed parts (places, control groups, images), the running state if there is
// one, and whether anything of the box may still be alive on the host. All changes of "running" go through adopt and
// release here.
import { rm } from 'node:fs/promises';
import type { Ulimit } from '../../../../shared/api.ts';
import type { ProcessIdentity } from '../../../../shared/process/child-process.ts';
import type { RunnerMode } from '../../../../shared/settings/config.ts';
import { sharedRange } from '../../../../shared/host/id-ranges.ts';
import { limits } from '../../../../shared/limits.ts';
import type { DriverContext } from '../../driver-contract.ts';
import { createBoxCgroups, type BoxCgroups } from '../host/cgroups.ts';
import { diskReleased } from '../disk/disk.ts';
import { keepDiskRoom } from '../disk/disk-room.ts';
import type { ExecContext } from '../exec/exec-process.ts';
import { createImagePreparer, type ImagePreparer, type PreparedImage } from '../images/root-images.ts';
import { endLeftovers } from './leftovers.ts';
import type { AliveWatch } from './monitor.ts';
import { keepConnected } from '../network/network.ts';
import { boxPaths, cgroupOf, type BoxPaths } from './paths.ts';
import { createPipePool, type PipePool } from '../exec/pipes.ts';
import { saveJson, type RunState } from './record.ts';
import { createRunner, type Runner } from '../runner/runner.ts';
import type { OciRuntime } from '../host/runtime.ts';

export interface Running {
  state: RunState;
  readonly exec: ExecContext;
  readonly image: PreparedImage;
  readonly watch: AliveWatch;
  readonly unwatchNetwork: () => void;
  readonly diskRoom: { close(): void };
  /** Commands that this driver value started and that have not ended. */
  readonly own: Set<string>;
}

export interface Holding {
  readonly context: DriverContext;
  readonly paths: BoxPaths;
  /** The box's control group, below the top of each hierarchy. */
  readonly cgroup: string;
  readonly cgroups: BoxCgroups;
  readonly preparer: ImagePreparer;
  readonly runtime: () => Promise<OciRuntime>;
  readonly runnerMode: RunnerMode;
  running: Running | null;
  /** True when this value knows that nothing of the box is left on the host but its files. */
  quiet: boolean;
}

export interface BoxDriverOptions {
  readonly insecureRegistries: readonly string[];
  readonly runner: RunnerMode;
  readonly runtime: () => Promise<OciRuntime>;
}

export function createHolding(context: DriverContext, options: BoxDriverOptions): Holding {
  const names = cgroupOf(context.instanceId, context.spec.boxId);
  return {
    context,
    paths: boxPaths(context.homeDir),
    cgroup: names.box,
    cgroups: createBoxCgroups(names),
    preparer: createImagePreparer({
      imagesDir: context.imagesDir,
      insecureRegistries: options.insecureRegistries,
      shift: sharedRange,
    }),
    runtime: options.runtime,
    runnerMode: options.runner,
    running: null,
    quiet: false,
  };
}

/** Pipes for the commands of a box; those of a predecessor are gone then. */
export async function openPipes({ context, paths }: Holding): Promise<PipePool> {
  const pipes = createPipePool(paths);
  await pipes.open(context.aheadDir);
  return pipes;
}

interface AdoptedBox {
  readonly state: RunState;
  readonly runtime: OciRuntime;
  readonly image: PreparedImage;
  readonly pipes: PipePool;
  /** Of its commands. */
  readonly limits: readonly Ulimit[];
}

/** Takes a running box on: from now on its end is noticed, and commands can be started. */
export function adopt(holding: Holding, box: AdoptedBox, arm: (onGone: () => void) => AliveWatch): void {
  const { context, paths, cgroups } = holding;
  const { pipes } = box;
  const current: Running = {
    state: box.state,
    image: box.image,
    exec: {
      boxId: context.spec.boxId,
      rootId: box.state.rootId ?? sharedRange.base,
      limits: box.limits,
      paths,
      runtime: box.runtime,
      cgroups,
      pipes,
      runner: runnerOf(holding, box),
      init: box.state.init,
      log: context.log,
      lingering: new Set(),
    },
    own: new Set(),
    unwatchNetwork: watchNetwork(holding, box.state, (network) => {
      current.state = { ...current.state, network };
      saveJson(paths.runState, current.state);
    }),
    diskRoom: keepDiskRoom(paths, box.state.init.pid, context.log),
    watch: arm(() => {
      if (holding.running === current) void engineExited(holding, current);
    }),
  };
  holding.running = current;
}

function runnerOf({ context, paths, cgroups, runnerMode }: Holding, { runtime, limits: ulimits }: AdoptedBox): Runner {
  return createRunner({
    mode: runnerMode,
    boxId: context.spec.boxId,
    limits: ulimits,
    paths,
    runtime,
    cgroups,
    log: context.log,
  });
}

function watchNetwork(
  { context, paths }: Holding,
  state: RunState,
  onReplaced: (network: ProcessIdentity) => void,
): () => void {
  if (state.network === null) return () => undefined;
  return keepConnected(paths, {
    init: state.init,
    network: state.network,
    onReplaced,
    onTrouble(error) {
      context.log.warn({ err: error }, 'the network of the box could not be kept as it should be');
    },
  });
}

/** Lets a running box go, as it is. */
export function release(holding: Holding, current: Running): void {
  current.watch.close();
  current.unwatchNetwork();
  current.diskRoom.close();
  current.exec.runner.letGo();
  holding.running = null;
}

/** Ends whatever of the box is alive, known or not. */
export async function quieten(holding: Holding): Promise<void> {
  await endLeftovers(holding.paths.home, holding.cgroups, limits.killTimeoutMs);
  await diskReleased(holding.paths, limits.killTimeoutMs);
  await rm(holding.paths.runState, { force: true });
  holding.quiet = true;
}

async function engineExited(holding: Holding, current: Running): Promise<void> {
  const { context, cgroups } = holding;
  release(holding, current);
  const oomKills = cgroups.oomKills();
  await quieten(holding).catch((error: unknown) => {
    context.log.error({ err: error }, 'cleaning up after the end of the box failed');
  });
  const memory = oomKills > 0 ? `; the kernel killed ${oomKills} of its processes for want of memory` : '';
  context.onEngineExit(
    `the box ended without being asked to: its first process or the OCI runtime was killed${memory}`,
  );
}
