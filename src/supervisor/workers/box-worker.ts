// The worker of one box over time: the first, and each successor under a lease of a higher generation.
// A successor is assigned only after its predecessor is dead and the generation is committed; box.ts decides when.
import type { Exec } from '../../shared/api.ts';
import {
  takes,
  type ExecOrder,
  type StreamGrant,
  type StreamOperation,
  type WorkerContract,
} from '../../shared/contracts/worker.ts';
import type { WriterContract } from '../../shared/contracts/writer.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import type { Turns } from '../../shared/waiting/in-turn.ts';
import type { ResultOf } from '../../shared/ipc/contract.ts';
import type { Link } from '../../shared/ipc/link.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { createStopwatch, type Stopwatch } from '../../shared/observe/stage-times.ts';
import type { Reader } from '../../shared/store/reader.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import { assignmentOf } from '../boxes/assignment.ts';
import type { ImageGate } from '../admission/image-gate.ts';
import type { Spills } from '../recovery/spills.ts';
import { leavesOpen, untilThrough } from '../boxes/until-through.ts';
import type { WarmPool } from './warm-pool.ts';
import type { FoundWorker, WorkerHandle } from './worker-handle.ts';
import { askAwake, killUnlessCanceled } from './worker-watch.ts';

/** An exec with how long its stages took, where its worker says so. */
export type TimedExec = ResultOf<WorkerContract, 'exec'>;

type ReportProgress = (stage: string, message: string) => void;

export interface BoxWorker {
  /** What the present worker said of its engine; null when there is none. */
  readonly present: { readonly running: boolean } | null;
  /**
   * Takes the worker that an earlier supervisor left, if it has the present lease; another one is dead after this.
   * @throws TIMEOUT when it neither answers nor dies: then no successor may come
   */
  adopt(): Promise<{ readonly running: boolean } | null>;
  /** Whether its worker says that the engine runs; null when there is none, or none that answers. */
  isRunning(): Promise<boolean | null>;
  create(progress: ReportProgress, signal: AbortSignal, watch?: Stopwatch): Promise<{ engineId: string }>;
  /** Under a new lease. A worker that is lost meanwhile is followed by another. */
  start(progress: ReportProgress, signal: AbortSignal, watch?: Stopwatch): Promise<void>;
  /**
   * Resolves when nothing of the engine runs any more. A worker that is lost or hangs meanwhile is followed by another.
   */
  /** The processes of the box have `graceMs` to end by themselves. */
  stop(graceMs: number): Promise<void>;
  /** `stop` for a box that is in trouble already; the worker is gone in any case. False: the engine may still run. */
  halt(): Promise<boolean>;
  /** As `stop`, and nothing of the box is left on the host. */
  remove(graceMs: number): Promise<void>;
  /**
   * After the worker's death: a successor takes the engine over and the lost commands are ended. False: the engine is
   * gone too.
   */
  succeed(reason: string): Promise<boolean>;
  /** Lets the worker go and ends its commands, whatever it does; the engine's end is the next worker's business. */
  abandon(): Promise<void>;
  exec(order: ExecOrder): Promise<TimedExec>;
  cancelExec(execId: string): Promise<Exec>;
  signalExec(execId: string, signal: number): Promise<Exec>;
  /** A one-time token for a stream straight to the worker. */
  openStream(operation: StreamOperation): Promise<StreamGrant>;
  /** Called when the worker has died without being asked to go. */
  onLost: (() => void) | null;
  onEngineExit: ((reason: string) => void) | null;
  /** A command resists its kill. */
  onUnkillable: ((reason: string) => void) | null;
}

export interface BoxWorkerDeps {
  readonly writer: Pick<Link<WriterContract>, 'request'>;
  readonly reader: Pick<Reader, 'finishedAmong' | 'newestFinishedExecIds'>;
  readonly pool: WarmPool;
  readonly gate: ImageGate;
  /** For what keeps the host busy: a box that comes up or is removed. */
  readonly turns: Turns;
  readonly spills: Pick<Spills, 'send' | 'sendLater'>;
  readonly instanceId: string;
  readonly log: Logger;
}

/** `row.generation` is the present lease's; this file is the only one to raise it. */
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
  #current: WorkerHandle | null = null;
  /** Left by an earlier supervisor, and neither the present worker nor dead yet. */
  #found: FoundWorker | null;
  /** Told to go: its end is no loss. */
  #leaving: WorkerHandle | null = null;

  constructor(deps: BoxWorkerDeps, row: BoxRow, found: FoundWorker | null) {
    this.#deps = deps;
    this.#row = row;
    this.#log = deps.log.child({ boxId: row.id });
    this.#found = found;
  }

  get present(): { readonly running: boolean } | null {
    return this.#current === null ? null : { running: this.#current.peer.hello.running };
  }

  async adopt(): Promise<{ readonly running: boolean } | null> {
    const worker = (await this.#found?.arrival) ?? null;
    // A worker of another generation holds the box's home: it must be dead before a successor comes.
    if (worker !== null && worker.peer.hello.generation !== this.#row.generation) await worker.kill();
    else if (worker !== null) this.#attach(worker);
    this.#found = null;
    return this.present;
  }

  async isRunning(): Promise<boolean | null> {
    return (await this.#current?.greet())?.running ?? null;
  }

  create(progress: ReportProgress, signal: AbortSignal, watch = createStopwatch()): Promise<{ engineId: string }> {
    return this.#deps.pool.undisturbed(() => this.#create(progress, signal, watch));
  }

  async #create(progress: ReportProgress, signal: AbortSignal, watch: Stopwatch): Promise<{ engineId: string }> {
    const worker = await watch.time('worker', () => this.#assign());
    faultPoint('supervisor.create.assigned');
    const { peer } = worker;
    const giveUp = killUnlessCanceled(worker, signal, this.#log);
    return this.#deps.gate
      .pass(
        imageKey(this.#row),
        async () => {
          // A create that is canceled is over only when the worker says so: what it made by then is removed after it.
          const options = { onProgress: progress, signal, waitAfterAbort: true };
          await watch.time('image', () => peer.request('prepareImage', {}, options));
          faultPoint('supervisor.create.image-ready');
          const askedAt = performance.now();
          return this.#deps.turns.take(async () => {
            watch.times['turn'] = performance.now() - askedAt;
            const created = await watch.time('create', () => peer.request('create', {}, options));
            faultPoint('supervisor.create.made');
            await watch.time('start', () => peer.request('start', {}, options));
            faultPoint('supervisor.create.started');
            return created;
          }, signal);
        },
        signal,
      )
      .finally(giveUp);
  }

  start(progress: ReportProgress, signal: AbortSignal, watch = createStopwatch()): Promise<void> {
    return this.#deps.pool.undisturbed(() => this.#start(progress, signal, watch));
  }

  async #start(progress: ReportProgress, signal: AbortSignal, watch: Stopwatch): Promise<void> {
    await this.#endFound();
    await this.#letGo();
    for (let attempt = 1; ; attempt++) {
      await watch.time('lease', () => this.#openLease());
      faultPoint('supervisor.start.leased');
      let worker: WorkerHandle | null = null;
      try {
        worker = await watch.time('worker', () => this.#assign());
        faultPoint('supervisor.start.assigned');
        await this.#startOn(worker, progress, signal, watch);
        faultPoint('supervisor.start.started');
        return;
      } catch (error) {
        const lost = worker === null ? leavesOpen(error) : !worker.peer.isOpen;
        if (!lost || signal.aborted || attempt === limits.boxAttemptsMax) throw error;
        this.#log.warn({ err: error, attempt }, 'a worker was lost while it started the box; another one starts it');
        await worker?.gone;
      }
    }
  }

  async #startOn(worker: WorkerHandle, progress: ReportProgress, signal: AbortSignal, watch: Stopwatch): Promise<void> {
    const { peer } = worker;
    const giveUp = killUnlessCanceled(worker, signal, this.#log);
    await this.#deps.gate
      .pass(
        imageKey(this.#row),
        async () => {
          const options = { onProgress: progress, signal, waitAfterAbort: true };
          await watch.time('image', () => peer.request('prepareImage', {}, options));
          await this.#deps.turns.take(() => watch.time('start', () => peer.request('start', {}, options)), signal);
        },
        signal,
      )
      .finally(giveUp);
  }

  stop(graceMs: number): Promise<void> {
    return this.#deps.pool.undisturbed(() => this.#stop(graceMs));
  }

  async #stop(graceMs: number): Promise<void> {
    const generation = this.#row.generation;
    await this.#endEngine('stop', graceMs);
    await this.#letGo();
    if (this.#row.generation > generation) await this.#endLost(this.#row.generation - 1);
  }

  /**
   * Commands of workers that were lost during a stop. The engine has ended, whether that can be committed now or later.
   */
  async #endLost(generation: number): Promise<void> {
    const close = () => this.#closeLease(generation, 'worker exited');
    await close().catch((error: unknown) => {
      this.#log.error({ err: error }, 'the commands of a lost worker cannot be ended yet');
      if (leavesOpen(error)) void untilThrough(close).catch(() => undefined); // Its box has been removed.
    });
  }

  async halt(): Promise<boolean> {
    const noting = (error: unknown) => {
      this.#log.error({ err: error }, 'stopping a box in trouble failed');
      return false;
    };
    const ended = await this.#endEngine('stop', 0).then(() => true, noting);
    await this.abandon().catch(noting);
    return ended;
  }

  remove(graceMs: number): Promise<void> {
    return this.#deps.pool.undisturbed(() => this.#remove(graceMs));
  }

  async #remove(graceMs: number): Promise<void> {
    await this.#deps.turns.take(async () => {
      await this.#endEngine('remove', graceMs);
      await this.#letGo();
    });
    // Followers of a command that was lost hear of its end before its rows are gone.
    await this.#closeLease(this.#row.generation, 'the box was removed');
  }

  async succeed(reason: string): Promise<boolean> {
    const predecessor = this.#current;
    await predecessor?.kill();
    await predecessor?.gone;
    faultPoint('supervisor.succession.predecessor-dead');
    return this.#takeOver(reason);
  }

  async abandon(): Promise<void> {
    await this.#letGo();
    await this.#closeLease(this.#row.generation, 'worker exited');
  }

  async exec(order: ExecOrder): Promise<TimedExec> {
    return this.#present().peer.request('exec', order);
  }

  async cancelExec(execId: string): Promise<Exec> {
    return this.#present().peer.request('cancel', { execId });
  }

  async signalExec(execId: string, signal: number): Promise<Exec> {
    return this.#present().peer.request('signal', { execId, signal });
  }

  async openStream(operation: StreamOperation): Promise<StreamGrant> {
    return this.#present().peer.request('grant', { operation });
  }

  /**
   * By the present worker or, where that is lost or hangs, by successors: as long as the engine may live this has not
   * succeeded.
   */
  async #endEngine(how: 'stop' | 'remove', graceMs: number): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      let worker = this.#living();
      try {
        if (worker === null) {
          worker = await this.#successor();
          // Only under a worker that knows the engine do commands get time to end.
          if (how === 'stop' && attempt === 1) await this.#reattach(worker).catch(rethrowIfOpen);
        }
        await askAwake(worker, how, graceMs, this.#log);
        return;
      } catch (error) {
        if (!leavesOpen(error) || attempt === limits.boxAttemptsMax) throw error;
        this.#log.warn({ err: error, how, attempt }, 'a worker did not end its box; another one does');
        if (worker?.peer.isOpen === false) await worker.gone;
        else if (worker !== null) await this.#letGo();
      }
    }
  }

  #attach(worker: WorkerHandle): WorkerHandle {
    this.#current = worker;
    worker.onEngineExit = (reason) => this.onEngineExit?.(reason);
    worker.onUnkillable = (reason) => this.onUnkillable?.(reason);
    const forget = () => {
      if (this.#current === worker) this.#current = null;
      if (this.#leaving !== worker) this.onLost?.();
    };
    worker.gone.then(forget, () => undefined);
    return worker;
  }

  /** A worker that cannot be made to go stays the present one: no successor may come. */
  async #letGo(): Promise<void> {
    const worker = this.#current;
    if (worker === null) return;
    this.#leaving = worker;
    await worker.dismiss();
    this.#current = null;
    void this.#deps.spills.sendLater(this.#row.id);
  }

  /** One that hung when this supervisor came is dead after this. @throws TIMEOUT when it does not die */
  async #endFound(): Promise<void> {
    await this.#found?.end();
    this.#found = null;
  }

  #living(): WorkerHandle | null {
    return this.#current?.peer.isOpen === true ? this.#current : null;
  }

  #present(): WorkerHandle {
    if (this.#current !== null) return this.#current;
    const { name, id } = this.#row;
    throw new BoxRunError('UNAVAILABLE', `box ${name ?? id} is being taken over by a new worker`);
  }

  /** A worker for the present lease. */
  async #assign(): Promise<WorkerHandle> {
    const worker = await this.#deps.pool.take();
    try {
      await worker.peer.request('assign', assignmentOf(this.#row, this.#deps.instanceId));
    } catch (error) {
      await worker.kill();
      throw error;
    }
    return this.#attach(worker);
  }

  /** A worker under a new lease; its predecessor is dead. */
  async #successor(): Promise<WorkerHandle> {
    await this.#endFound();
    await this.#current?.gone;
    this.#current = null;
    await this.#openLease();
    faultPoint('supervisor.succession.leased');
    return this.#assign();
  }

  /** A successor takes over what runs, and its predecessor's commands are ended; false when nothing runs. */
  async #takeOver(reason: string): Promise<boolean> {
    const worker = await this.#successor();
    const running = await this.#reattach(worker);
    faultPoint('supervisor.succession.reattached');
    await this.#closeLease(this.#row.generation - 1, reason);
    faultPoint('supervisor.succession.closed');
    return running;
  }

  /**
   * The worker names the commands that it finds in the box, and those of them that had ended keep their background
   * children.
   */
  async #reattach({ peer }: WorkerHandle): Promise<boolean> {
    const { reader } = this.#deps;
    if (!takes(peer.hello, 'adopt')) {
      // Of an earlier version: it must be told before it knows which commands are there.
      const finishedExecs = reader.newestFinishedExecIds(this.#row.id, limits.finishedExecsTold);
      return (await peer.request('reattach', { finishedExecs })).running;
    }
    const { running, execIds } = await peer.request('adopt', {});
    if (running) await peer.request('endStrays', { finishedExecs: reader.finishedAmong(this.#row.id, execIds) });
    return running;
  }

  async #openLease(): Promise<void> {
    await this.#deps.spills.send(this.#row.id);
    const generation = this.#row.generation + 1;
    await this.#deps.writer.request('openLease', { boxId: this.#row.id, generation }, { resend: true });
    this.#row.generation = generation;
  }

  async #closeLease(generation: number, reason: string): Promise<void> {
    await this.#deps.spills.send(this.#row.id);
    await this.#deps.writer.request('closeLease', { boxId: this.#row.id, generation, reason }, { resend: true });
    this.#row.generation = Math.max(this.#row.generation, generation + 1);
  }
}

/** An engine that cannot be taken over can be ended all the same; a worker that is gone cannot do it. */
function rethrowIfOpen(error: unknown): void {
  if (leavesOpen(error)) throw error;
}

function imageKey(row: BoxRow): string {
  return `${row.driver} ${JSON.stringify(row.image_source)}`;
}
