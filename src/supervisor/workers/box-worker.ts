// The worker of one box over time: the first one, and each successor under a lease of a higher generation. Brings the
// engine up, ends it, and passes calls to the present worker. No two workers ever act for the box at the same time.
import type { BoxProcess, Exec, ListeningPort } from '../../shared/api.ts';
import { BoxRunError } from '../../shared/errors.ts';
import {
  takes,
  type ExecOrder,
  type PortWait,
  type StreamGrant,
  type StreamOperation,
  type WorkerContract,
} from '../../shared/contracts/worker.ts';
import type { WriterContract } from '../../shared/contracts/writer.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import type { ResultOf } from '../../shared/ipc/contract.ts';
import type { Link } from '../../shared/ipc/link.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { createStopwatch, type Stopwatch } from '../../shared/observe/stage-times.ts';
import type { Reader } from '../../shared/store/reader.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import type { Turns } from '../../shared/waiting/in-turn.ts';
import type { ImageGate } from '../admission/image-gate.ts';
import { isOutcomeUnknown } from './retry.ts';
import type { Spills } from './spills.ts';
import { createBoxLease, type BoxLease } from './box-lease.ts';
import { createEngine, startEngine, type BringUpOptions, type ReportProgress } from './bring-up.ts';
import { createPresentWorker, type PresentWorker } from './present-worker.ts';
import type { WarmPool } from './warm-pool.ts';
import type { FoundWorker, WorkerHandle } from './worker-handle.ts';
import { requestOrKill } from './worker-watch.ts';

export type { ReportProgress };

/** A command, with the times of its stages if the worker reports them. */
export type TimedExec = ResultOf<WorkerContract, 'exec'>;

type Stats = ResultOf<WorkerContract, 'stats'>;
/** What the engine uses. Null: the worker or the engine does not say it. */
export type EngineStats = { readonly [K in Exclude<keyof Stats, 'agent'>]: Stats[K] | null } & Pick<Stats, 'agent'>;
const noStats: EngineStats = {
  cpuSeconds: null,
  memoryBytes: null,
  diskUsedBytes: null,
  diskSizeBytes: null,
  processes: null,
  networkReceivedBytes: null,
  networkSentBytes: null,
};

export interface BoxWorker {
  /**
   * What the worker said of its engine in its hello, when this supervisor connected to it. `isRunning` asks again. Null
   * when there is no worker.
   */
  readonly present: { readonly running: boolean } | null;
  /**
   * Takes the worker that an earlier supervisor left, if it has the present lease. A worker with another lease is
   * killed.
   * @returns what the worker says of its engine; null when there is no worker
   * @throws TIMEOUT when the worker neither answers nor dies: then no successor may come
   */
  adopt(): Promise<{ readonly running: boolean } | null>;
  /** Asks the worker whether the engine runs. Null when there is no worker, or when it does not answer. */
  isRunning(): Promise<boolean | null>;
  /** Creates the engine of a new box and starts it. If the worker is lost, this fails; it is not tried again. */
  create(progress: ReportProgress, signal: AbortSignal, stopwatch?: Stopwatch): Promise<{ engineId: string }>;
  /** Starts the engine under a new lease. If the worker is lost meanwhile, another worker tries again. */
  start(progress: ReportProgress, signal: AbortSignal, stopwatch?: Stopwatch): Promise<void>;
  /**
   * Resolves when nothing of the engine runs any more. If the worker is lost or hangs meanwhile, another one goes on.
   * @param graceMs how long the processes of the box have to end by themselves, in milliseconds
   */
  stop(graceMs: number): Promise<void>;
  /**
   * Like `stop` without a grace period, for a box that is in trouble already. It never rejects, and it also releases
   * the worker.
   * @returns false when the engine may still run
   */
  tryStop(): Promise<boolean>;
  /** Like `stop`, and removes everything of the box from the host. */
  remove(graceMs: number): Promise<void>;
  /**
   * Kills the present worker, if it still lives. A successor takes over the engine and the commands that the engine has
   * kept. The commands that were lost with the old worker are ended.
   * @param reason stands in the error message of these commands
   * @returns false when the engine is gone, too
   */
  takeOver(reason: string): Promise<boolean>;
  /** Stops the worker and closes its lease, which ends its commands. The engine is left for the next worker. */
  release(): Promise<void>;
  exec(order: ExecOrder): Promise<TimedExec>;
  cancelExec(execId: string): Promise<Exec>;
  signalExec(execId: string, signal: number): Promise<Exec>;
  /** A one-time token for a stream between the client's gateway and the worker. */
  openStream(operation: StreamOperation): Promise<StreamGrant>;
  stats(): Promise<EngineStats>;
  /** @throws UNAVAILABLE if the worker is of an earlier version */
  processes(): Promise<BoxProcess[]>;
  /** @throws UNAVAILABLE if the worker is of an earlier version */
  ports(wait: PortWait, signal: AbortSignal): Promise<ListeningPort[]>;
  /** @throws UNAVAILABLE if the worker is of an earlier version */
  signalProcess(pid: number, signal: number): Promise<void>;
  /** Called when the worker has died although the supervisor did not stop it. */
  onLost: (() => void) | null;
  /** Called when the engine has ended by itself. */
  onEngineExit: ((reason: string) => void) | null;
  /** Called when a command does not die after a kill. */
  onUnkillable: ((reason: string) => void) | null;
}

export interface BoxWorkerDeps {
  readonly writer: Pick<Link<WriterContract>, 'request'>;
  readonly reader: Pick<Reader, 'finishedAmong' | 'newestFinishedExecIds' | 'resumable'>;
  readonly pool: WarmPool;
  readonly gate: ImageGate;
  /** Limits how many boxes come up or are removed at once: both keep the host busy. */
  readonly turns: Turns;
  readonly spills: Pick<Spills, 'send' | 'sendLater'>;
  readonly instanceId: string;
  readonly log: Logger;
}

/** @param row its `generation` is that of the present lease; box-lease.ts raises it */
export function createBoxWorker(deps: BoxWorkerDeps, row: BoxRow, found: FoundWorker | null): BoxWorker {
  return new LeasedWorker(deps, row, found);
}

class LeasedWorker implements BoxWorker {
  onLost: (() => void) | null = null;
  onEngineExit: ((reason: string) => void) | null = null;
  onUnkillable: ((reason: string) => void) | null = null;
  readonly #deps: BoxWorkerDeps;
  readonly #row: BoxRow;
  readonly #log: Logger;
  readonly #lease: BoxLease;
  readonly #worker: PresentWorker;

  constructor(deps: BoxWorkerDeps, row: BoxRow, found: FoundWorker | null) {
    this.#deps = deps;
    this.#row = row;
    this.#log = deps.log.child({ boxId: row.id });
    this.#lease = createBoxLease({ ...deps, log: this.#log }, row);
    const callbacks = {
      onLost: () => this.onLost?.(),
      onEngineExit: (reason: string) => this.onEngineExit?.(reason),
      onUnkillable: (reason: string) => this.onUnkillable?.(reason),
    };
    this.#worker = createPresentWorker({ ...deps, lease: this.#lease, ...callbacks }, row, found);
  }

  get present(): { readonly running: boolean } | null {
    const { handle } = this.#worker;
    return handle === null ? null : { running: handle.peer.hello.running };
  }

  async adopt(): Promise<{ readonly running: boolean } | null> {
    await this.#worker.adopt();
    return this.present;
  }

  async isRunning(): Promise<boolean | null> {
    return (await this.#worker.handle?.greet())?.running ?? null;
  }

  create(progress: ReportProgress, signal: AbortSignal, stopwatch = createStopwatch()): Promise<{ engineId: string }> {
    return this.#deps.pool.holdBackSpares(async () => {
      const worker = await stopwatch.time('worker', () => this.#worker.assign());
      faultPoint('supervisor.create.assigned');
      return createEngine(this.#bringUpDeps(), worker, this.#row, { progress, signal, stopwatch });
    });
  }

  start(progress: ReportProgress, signal: AbortSignal, stopwatch = createStopwatch()): Promise<void> {
    return this.#deps.pool.holdBackSpares(() => this.#start({ progress, signal, stopwatch }));
  }

  async #start(options: BringUpOptions): Promise<void> {
    const { signal, stopwatch } = options;
    await this.#worker.killFound();
    await this.#worker.stop();
    for (let attempt = 1; ; attempt++) {
      await stopwatch.time('lease', () => this.#lease.open());
      faultPoint('supervisor.start.leased');
      let worker: WorkerHandle | null = null;
      try {
        worker = await stopwatch.time('worker', () => this.#worker.assign());
        faultPoint('supervisor.start.assigned');
        await startEngine(this.#bringUpDeps(), worker, this.#row, options);
        faultPoint('supervisor.start.started');
        return;
      } catch (error) {
        const isLost = worker === null ? isOutcomeUnknown(error) : !worker.peer.isOpen;
        if (!isLost || signal.aborted || attempt === limits.boxAttemptsMax) throw error;
        this.#log.warn({ err: error, attempt }, 'a worker was lost while it started the box; another one starts it');
        await worker?.gone;
      }
    }
  }

  #bringUpDeps() {
    return { ...this.#deps, log: this.#log };
  }

  stop(graceMs: number): Promise<void> {
    return this.#deps.pool.holdBackSpares(() => this.#stop(graceMs));
  }

  async #stop(graceMs: number): Promise<void> {
    const generation = this.#row.generation;
    await this.#endEngine('stop', graceMs);
    await this.#worker.stop();
    // A higher generation means that a worker was lost during the stop. The engine has ended, so the stop has
    // succeeded, even if the end of the lost commands cannot be committed yet.
    if (this.#row.generation > generation) {
      await this.#lease.closeNowOrLater(this.#row.generation - 1, 'worker exited');
    }
  }

  async tryStop(): Promise<boolean> {
    const logFailure = (error: unknown) => {
      this.#log.error({ err: error }, 'stopping a box in trouble failed');
      return false;
    };
    const ended = await this.#endEngine('stop', 0).then(() => true, logFailure);
    await this.release().catch(logFailure);
    return ended;
  }

  remove(graceMs: number): Promise<void> {
    return this.#deps.pool.holdBackSpares(() => this.#remove(graceMs));
  }

  async #remove(graceMs: number): Promise<void> {
    await this.#deps.turns.take(async () => {
      await this.#endEngine('remove', graceMs);
      await this.#worker.stop();
    });
    // Clients that follow a lost command must hear of its end before its rows are gone.
    await this.#lease.close(this.#row.generation, 'the box was removed');
  }

  async takeOver(reason: string): Promise<boolean> {
    await this.#worker.kill();
    faultPoint('supervisor.succession.predecessor-dead');
    const worker = await this.#worker.assignSuccessor();
    const { running, kept } = await this.#adoptEngine(worker);
    faultPoint('supervisor.succession.reattached');
    await this.#lease.close(this.#row.generation - 1, reason, kept);
    faultPoint('supervisor.succession.closed');
    return running;
  }

  async release(): Promise<void> {
    await this.#worker.stop();
    await this.#lease.close(this.#row.generation, 'worker exited');
  }

  async exec(order: ExecOrder): Promise<TimedExec> {
    return this.#worker.required().peer.request('exec', order);
  }

  async cancelExec(execId: string): Promise<Exec> {
    return this.#worker.required().peer.request('cancel', { execId });
  }

  async signalExec(execId: string, signal: number): Promise<Exec> {
    return this.#worker.required().peer.request('signal', { execId, signal });
  }

  async openStream(operation: StreamOperation): Promise<StreamGrant> {
    const peer = this.#peerForStream(operation.kind);
    return peer.request('grant', { operation });
  }

  async stats(): Promise<EngineStats> {
    const { peer } = this.#worker.required();
    if (takes(peer.hello, 'stats')) return peer.request('stats', {});
    // A worker of an earlier version says less.
    return { ...noStats, ...(await peer.request('figures', {})).engine };
  }

  async processes(): Promise<BoxProcess[]> {
    return this.#peerFor('processes').request('processes', {});
  }

  async ports(wait: PortWait, signal: AbortSignal): Promise<ListeningPort[]> {
    return this.#peerFor('ports').request('ports', wait, { signal });
  }

  async signalProcess(pid: number, signal: number): Promise<void> {
    await this.#peerFor('signalProcess').request('signalProcess', { pid, signal });
  }

  /** @throws UNAVAILABLE if the worker does not know such streams yet */
  #peerForStream(kind: StreamOperation['kind']): ReturnType<PresentWorker['required']>['peer'] {
    if (kind === 'file') return this.#peerFor('file');
    return kind === 'port' ? this.#peerFor('ports') : this.#worker.required().peer;
  }

  /** @throws UNAVAILABLE if the worker does not know this request yet */
  #peerFor(request: 'file' | 'ports' | 'processes' | 'signalProcess'): ReturnType<PresentWorker['required']>['peer'] {
    const { peer } = this.#worker.required();
    if (takes(peer.hello, request)) return peer;
    throw new BoxRunError('UNAVAILABLE', 'the worker of this box is of an earlier version and cannot do this', {
      hint: 'stop and start the box',
    });
  }

  /**
   * Stops or removes the engine. If a worker is lost or hangs, a successor tries again, up to limits.boxAttemptsMax
   * workers. Rejects when the engine may still live.
   */
  async #endEngine(how: 'stop' | 'remove', graceMs: number): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      let worker = this.#worker.connected;
      try {
        if (worker === null) {
          worker = await this.#worker.assignSuccessor();
          // A worker can give commands time to end only if it has taken over the engine. If it could not take it over,
          // it can still end it, unless the worker itself is lost.
          if (how === 'stop' && attempt === 1) await this.#adoptEngine(worker).catch(rethrowIfOutcomeUnknown);
        }
        await requestOrKill(worker, how, graceMs, this.#log);
        return;
      } catch (error) {
        if (!isOutcomeUnknown(error) || attempt === limits.boxAttemptsMax) throw error;
        this.#log.warn({ err: error, how, attempt }, 'a worker did not end its box; another one does');
        if (worker?.peer.isOpen === false) await worker.gone;
        else if (worker !== null) await this.#worker.stop();
      }
    }
  }

  /**
   * The worker takes over the running engine. It names the commands that still have processes in the box. If the
   * database says that a command has ended, its processes are background children and live on. Commands whose output
   * was kept go on. All others are killed.
   * @returns `running` is false when the engine does not run; `kept` has the commands that go on
   */
  async #adoptEngine({ peer }: WorkerHandle): Promise<{ readonly running: boolean; readonly kept: readonly string[] }> {
    const { reader } = this.#deps;
    if (!takes(peer.hello, 'adopt')) {
      // A worker of an earlier version does not name the commands that it finds. It needs the list of ended commands
      // before it looks.
      const finishedExecs = reader.newestFinishedExecIds(this.#row.id, limits.finishedExecsNamedMax);
      return { ...(await peer.request('reattach', { finishedExecs })), kept: [] };
    }
    const { running, execIds, heldExecs = [] } = await peer.request('adopt', {});
    if (!running) return { running, kept: [] };
    const execs = reader.resumable(this.#row.id, heldExecs);
    const kept = execs.map(({ exec }) => exec.id);
    const finishedExecs = reader.finishedAmong(this.#row.id, execIds);
    await peer.request('endStrays', { finishedExecs, keptExecs: kept });
    if (execs.length > 0) await peer.request('resumeExecs', { execs });
    return { running, kept };
  }
}

function rethrowIfOutcomeUnknown(error: unknown): void {
  if (isOutcomeUnknown(error)) throw error;
}
