// The state of the container box in this worker: its places on the host, its control groups, and what belongs to it
// while it runs. The object alone knows whether the box runs, and whether processes of it may be alive on the host.
// Each change of that has a method here.
import { rm } from 'node:fs/promises';
import type { Ulimit } from '../../../../shared/api.ts';
import type { ProcessIdentity } from '../../../../shared/process/child-process.ts';
import type { AgentMode } from '../../../../shared/settings/config.ts';
import { sharedRange } from '../../../../shared/host/id-ranges.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { limits } from '../../../../shared/limits.ts';
import type { DriverContext } from '../../driver-contract.ts';
import { createBoxCgroups, type BoxCgroups } from '../host/cgroups.ts';
import { diskReleased } from '../disk/disk.ts';
import { keepDiskRoom } from '../disk/disk-room.ts';
import type { ExecContext } from '../exec/exec-process.ts';
import { createImagePreparer, type ImagePreparer, type PreparedImage } from '../images/root-images.ts';
import { killLeftovers } from './leftovers.ts';
import type { AliveWatch } from './monitor.ts';
import { keepConnected } from '../network/network.ts';
import { boxPaths, cgroupOf, type BoxPaths } from '../paths.ts';
import { createPipePool, type PipePool } from '../exec/pipes.ts';
import { saveJson, type RunState } from './record.ts';
import { createBoxAgent, type BoxAgent } from '../agent/box-agent.ts';
import type { OciRuntime } from '../host/runtime.ts';

/** What the worker holds while the box runs. */
export interface Running {
  /** The processes on the host that make up the box. It changes when slirp4netns is replaced. */
  readonly state: RunState;
  readonly exec: ExecContext;
  readonly image: PreparedImage;
  /** Ids of the commands that this worker started and that have not ended. */
  readonly ownExecIds: Set<string>;
  readonly aliveWatch: AliveWatch;
  readonly stopNetworkWatch: () => void;
  readonly diskRoom: { close(): void };
}

export interface BoxDriverOptions {
  /** Registries that the driver reaches over plain http, as host:port. */
  readonly insecureRegistries: readonly string[];
  readonly agent: AgentMode;
  readonly runtime: () => Promise<OciRuntime>;
}

interface StartedBox {
  readonly state: RunState;
  readonly runtime: OciRuntime;
  readonly image: PreparedImage;
  readonly pipes: PipePool;
  /** Limits of the commands. The first process has its own. */
  readonly limits: readonly Ulimit[];
}

export function createContainerState(context: DriverContext, options: BoxDriverOptions): ContainerState {
  return new ContainerState(context, options);
}

export class ContainerState {
  readonly context: DriverContext;
  readonly paths: BoxPaths;
  /** Path of the box's control group, below the top of each hierarchy. */
  readonly cgroup: string;
  readonly cgroups: BoxCgroups;
  readonly preparer: ImagePreparer;
  readonly chooseRuntime: () => Promise<OciRuntime>;
  readonly #agentMode: AgentMode;
  #running: Running | null = null;
  /** True when this worker knows that no process of the box is alive on the host. */
  #isKnownStopped = false;

  constructor(context: DriverContext, options: BoxDriverOptions) {
    const names = cgroupOf(context.instanceId, context.spec.boxId);
    this.context = context;
    this.paths = boxPaths(context.homeDir);
    this.cgroup = names.box;
    this.cgroups = createBoxCgroups(names);
    this.preparer = createImagePreparer({
      imagesDir: context.imagesDir,
      insecureRegistries: options.insecureRegistries,
      shift: sharedRange,
    });
    this.chooseRuntime = options.runtime;
    this.#agentMode = options.agent;
  }

  get isRunning(): boolean {
    return this.#running !== null;
  }

  /** @throws BOX_NOT_RUNNING */
  needRunning(): Running {
    if (this.#running !== null) return this.#running;
    throw new BoxRunError('BOX_NOT_RUNNING', `the box ${this.context.spec.boxId} is not running`);
  }

  /** Makes the pipes for the commands of the box. Pipes of an earlier worker are removed. */
  async openPipes(): Promise<PipePool> {
    const pipes = createPipePool(this.paths);
    await pipes.open(this.context.aheadDir);
    return pipes;
  }

  /** The box has a new home, and no process of it has ever run. */
  markCreated(): void {
    this.#isKnownStopped = true;
  }

  /** From now on processes of the box may be alive on the host, even if the start fails. */
  markStarting(): void {
    this.#isKnownStopped = false;
  }

  /**
   * The box runs: from now on this worker notices its end, and can start commands in it.
   * @param arm begins to watch for the end of the monitor
   */
  markRunning(box: StartedBox, arm: (onGone: () => void) => AliveWatch): void {
    const { context, paths, cgroups } = this;
    let { state } = box;
    const current: Running = {
      get state() {
        return state;
      },
      image: box.image,
      exec: {
        boxId: context.spec.boxId,
        rootId: state.rootId ?? sharedRange.base,
        limits: box.limits,
        paths,
        runtime: box.runtime,
        cgroups,
        pipes: box.pipes,
        agent: this.#createAgent(box),
        init: state.init,
        log: context.log,
        lingering: new Set(),
      },
      ownExecIds: new Set(),
      stopNetworkWatch: this.#watchNetwork(state, (network) => {
        state = { ...state, network };
        saveJson(paths.runState, state);
      }),
      diskRoom: keepDiskRoom(paths, state.init.pid, context.log),
      aliveWatch: arm(() => {
        if (this.#running === current) void this.#boxEnded();
      }),
    };
    this.#running = current;
  }

  /**
   * Closes all watches on the running box. The box itself runs on, and the agent ends after its last command.
   * @returns what was container, or null if the box was not running
   */
  release(): Running | null {
    const current = this.#running;
    if (current === null) return null;
    current.aliveWatch.close();
    current.stopNetworkWatch();
    current.diskRoom.close();
    current.exec.agent.stop();
    this.#running = null;
    return current;
  }

  /** Kills what is left of the box, unless this worker knows that nothing is left. */
  async ensureStopped(): Promise<void> {
    if (!this.#isKnownStopped) await this.killLeftovers();
  }

  /** Kills every process of the box on this host, whether it was recorded or not. */
  async killLeftovers(): Promise<void> {
    await killLeftovers(this.paths.home, this.cgroups, limits.killTimeoutMs);
    await this.confirmStopped();
  }

  /** Call this when all processes of the box have ended. It waits for the disk and removes the record of processes. */
  async confirmStopped(): Promise<void> {
    await diskReleased(this.paths, limits.killTimeoutMs);
    await rm(this.paths.runState, { force: true });
    this.#isKnownStopped = true;
  }

  #createAgent({ runtime, limits: ulimits }: StartedBox): BoxAgent {
    return createBoxAgent({
      mode: this.#agentMode,
      boxId: this.context.spec.boxId,
      generation: this.context.generation,
      limits: ulimits,
      paths: this.paths,
      runtime,
      cgroups: this.cgroups,
      log: this.context.log,
    });
  }

  #watchNetwork(state: RunState, onReplaced: (network: ProcessIdentity) => void): () => void {
    if (state.network === null) return () => undefined;
    return keepConnected(this.paths, {
      init: state.init,
      network: state.network,
      onReplaced,
      onTrouble: (error) => {
        this.context.log.warn({ err: error }, 'the network of the box could not be repaired; the next try follows');
      },
    });
  }

  /** The box ended and this worker had not stopped it. */
  async #boxEnded(): Promise<void> {
    const { context, cgroups } = this;
    this.release();
    const oomKills = cgroups.oomKills();
    await this.killLeftovers().catch((error: unknown) => {
      context.log.error({ err: error }, 'cleaning up after the end of the box failed');
    });
    const memory = oomKills > 0 ? `; the kernel killed ${oomKills} of its processes, because memory ran out` : '';
    context.onEngineExit(`the box ended unexpectedly: its first process or the OCI runtime was killed${memory}`);
  }
}
