// The worker of one box over time: the first, and each successor under a lease of a higher generation.
// A successor is assigned only after its predecessor is dead and the generation is committed; box.ts decides when.
import type { Exec } from '../shared/api.ts';
import type { ExecOrder, Assignment, StreamGrant, StreamOperation, WorkerContract } from '../shared/contracts/worker.ts';
import type { WriterContract } from '../shared/contracts/writer.ts';
import { BoxRunError } from '../shared/errors.ts';
import type { ResultOf } from '../shared/ipc/contract.ts';
import type { Link } from '../shared/ipc/link.ts';
import { limits } from '../shared/limits.ts';
import type { Logger } from '../shared/log.ts';
import { createStopwatch, type Stopwatch } from '../shared/stage-times.ts';
import type { Reader } from '../shared/store/reader.ts';
import type { BoxRow } from '../shared/store/rows.ts';
import type { ImageGate } from './image-gate.ts';
import type { WarmPool } from './warm-pool.ts';
import type { WorkerHandle } from './worker-handle.ts';

/** An exec with how long its stages took, where its worker says so. */
export type TimedExec = ResultOf<WorkerContract, 'exec'>;

type ReportProgress = (stage: string, message: string) => void;

export interface BoxWorker {
  /** What an adopted worker said of its engine; null when there is none. */
  readonly present: { readonly running: boolean } | null;
  create(progress: ReportProgress, signal: AbortSignal, watch?: Stopwatch): Promise<{ engineId: string }>;
  /** Under a new lease. */
  start(progress: ReportProgress, watch?: Stopwatch): Promise<void>;
  stop(): Promise<void>;
  /** `stop` for a box that is in trouble already: what goes wrong is logged, and the worker is gone in any case. */
  halt(): Promise<void>;
  remove(): Promise<void>;
  /** After the worker's death: a successor takes the engine over and the lost commands are ended. False: the engine is gone too. */
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
}

export interface BoxWorkerDeps {
  readonly writer: Pick<Link<WriterContract>, 'request'>;
  readonly reader: Pick<Reader, 'finishedExecIds'>;
  readonly pool: WarmPool;
  readonly gate: ImageGate;
  readonly instanceId: string;
  readonly log: Logger;
}

/** `row.generation` is the present lease's; this file is the only one to raise it. */
export function createBoxWorker(deps: BoxWorkerDeps, row: BoxRow, adopted: WorkerHandle | null): BoxWorker {
  return new LeasedWorker(deps, row, adopted);
}

class LeasedWorker implements BoxWorker {
  onLost: (() => void) | null = null;
  onEngineExit: ((reason: string) => void) | null = null;
  readonly #deps: BoxWorkerDeps;
  readonly #row: BoxRow;
  readonly #log: Logger;
  #current: WorkerHandle | null = null;

  constructor(deps: BoxWorkerDeps, row: BoxRow, adopted: WorkerHandle | null) {
    this.#deps = deps;
    this.#row = row;
    this.#log = deps.log.child({ boxId: row.id });
    if (adopted !== null) this.#attach(adopted);
  }

  get present(): { readonly running: boolean } | null {
    return this.#current === null ? null : { running: this.#current.peer.hello.running };
  }

  async create(progress: ReportProgress, signal: AbortSignal, watch = createStopwatch()): Promise<{ engineId: string }> {
    const { peer } = await watch.time('worker', () => this.#assign());
    return this.#deps.gate.pass(imageKey(this.#row), async () => {
      // A create that is canceled is over only when the worker says so: what it made by then is removed after it.
      const options = { onProgress: progress, signal, waitAfterAbort: true };
      const startOptions = { ...options, timeoutMs: limits.boxStartTimeoutMs };
      const imageOptions = { ...options, timeoutMs: limits.imagePrepareTimeoutMs };
      await watch.time('image', () => peer.request('prepareImage', {}, imageOptions));
      const created = await watch.time('create', () => peer.request('create', {}, startOptions));
      await watch.time('start', () => peer.request('start', {}, startOptions));
      return created;
    }, signal);
  }

  async start(progress: ReportProgress, watch = createStopwatch()): Promise<void> {
    await this.#letGo();
    await watch.time('lease', () => this.#openLease());
    const { peer } = await watch.time('worker', () => this.#assign());
    await this.#deps.gate.pass(imageKey(this.#row), async () => {
      const options = { onProgress: progress };
      const imageOptions = { ...options, timeoutMs: limits.imagePrepareTimeoutMs };
      await watch.time('image', () => peer.request('prepareImage', {}, imageOptions));
      const startOptions = { ...options, timeoutMs: limits.boxStartTimeoutMs };
      await watch.time('start', () => peer.request('start', {}, startOptions));
    });
  }

  async stop(): Promise<void> {
    const worker = this.#living() ?? (await this.#takeOver('worker exited')).worker;
    await worker.peer.request('stop', {}, { timeoutMs: limits.boxStopTimeoutMs });
    await this.#letGo();
  }

  async halt(): Promise<void> {
    for (const step of [() => this.stop(), () => this.abandon()]) {
      await step().catch((error: unknown) => {
        this.#log.error({ err: error }, 'stopping a box in trouble failed');
      });
    }
  }

  async remove(): Promise<void> {
    const worker = this.#living() ?? (await this.#successor());
    await worker.peer.request('remove', {}, { timeoutMs: limits.boxRemoveTimeoutMs });
    await this.#letGo();
    // Followers of a command that was lost hear of its end before its rows are gone.
    await this.#closeLease(this.#row.generation, 'the box was removed');
  }

  async succeed(reason: string): Promise<boolean> {
    const predecessor = this.#current;
    await predecessor?.kill();
    await predecessor?.gone;
    const { running } = await this.#takeOver(reason);
    return running;
  }

  async abandon(): Promise<void> {
    await this.#letGo();
    await this.#closeLease(this.#row.generation, 'worker exited');
  }

  async exec(order: ExecOrder): Promise<TimedExec> {
    const timeoutMs = limits.execStartTimeoutMs + limits.requestTimeoutMs;
    return this.#present().peer.request('exec', order, { timeoutMs });
  }

  async cancelExec(execId: string): Promise<Exec> {
    const timeoutMs = limits.killTimeoutMs + limits.requestTimeoutMs;
    return this.#present().peer.request('cancel', { execId }, { timeoutMs });
  }

  async signalExec(execId: string, signal: number): Promise<Exec> {
    return this.#present().peer.request('signal', { execId, signal });
  }

  async openStream(operation: StreamOperation): Promise<StreamGrant> {
    return this.#present().peer.request('grant', { operation });
  }

  #attach(worker: WorkerHandle): WorkerHandle {
    this.#current = worker;
    worker.onEngineExit = (reason) => this.onEngineExit?.(reason);
    const forget = () => {
      if (this.#current !== worker) return; // It was let go.
      this.#current = null;
      this.onLost?.();
    };
    worker.gone.then(forget, () => undefined);
    return worker;
  }

  async #letGo(): Promise<void> {
    const worker = this.#current;
    this.#current = null;
    await worker?.dismiss();
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
    await this.#current?.gone;
    this.#current = null;
    await this.#openLease();
    return this.#assign();
  }

  /** A successor that has taken over what runs, its predecessor's commands ended. */
  async #takeOver(reason: string): Promise<{ worker: WorkerHandle; running: boolean }> {
    const worker = await this.#successor();
    const finishedExecs = this.#deps.reader.finishedExecIds(this.#row.id);
    const options = { timeoutMs: limits.boxStartTimeoutMs };
    const { running } = await worker.peer.request('reattach', { finishedExecs }, options);
    await this.#closeLease(this.#row.generation - 1, reason);
    return { worker, running };
  }

  async #openLease(): Promise<void> {
    const generation = this.#row.generation + 1;
    await this.#deps.writer.request('openLease', { boxId: this.#row.id, generation }, { resend: true });
    this.#row.generation = generation;
  }

  async #closeLease(generation: number, reason: string): Promise<void> {
    await this.#deps.writer.request('closeLease', { boxId: this.#row.id, generation, reason }, { resend: true });
    this.#row.generation = Math.max(this.#row.generation, generation + 1);
  }
}

function imageKey(row: BoxRow): string {
  return `${row.driver} ${JSON.stringify(row.image_source)}`;
}

function assignmentOf(row: BoxRow, instanceId: string): Assignment {
  if (row.image_source === null) throw new BoxRunError('RUNTIME_ERROR', `box ${row.id} has no image`);
  return {
    boxId: row.id,
    generation: row.generation,
    instanceId,
    driver: row.driver,
    image: row.image_source,
    cpu: row.cpu,
    memoryMb: row.memory_mb,
    diskSizeGb: row.disk_size_gb,
    network: row.network,
    workdir: row.workdir,
    env: row.env ?? {},
    volumes: row.volumes ?? [],
    engineId: row.boxlite_id,
  };
}
