// The worker of one box over time: the first, and each successor under a lease of a higher generation.
// A successor is assigned only after its predecessor is dead and the generation is committed; box.ts decides when.
import type { Exec } from '../shared/api.ts';
import type { ExecOrder, Assignment } from '../shared/contracts/worker.ts';
import type { WriterContract } from '../shared/contracts/writer.ts';
import { BoxRunError } from '../shared/errors.ts';
import type { Link } from '../shared/ipc/link.ts';
import { limits } from '../shared/limits.ts';
import type { Logger } from '../shared/log.ts';
import type { Reader } from '../shared/store/reader.ts';
import type { BoxRow } from '../shared/store/rows.ts';
import type { ImageGate } from './image-gate.ts';
import type { WarmPool } from './warm-pool.ts';
import type { WorkerHandle } from './worker-handle.ts';

type ReportProgress = (stage: string, message: string) => void;

export interface BoxWorker {
  /** What an adopted worker said of its engine; null when there is none. */
  readonly present: { readonly running: boolean } | null;
  create(progress: ReportProgress, signal: AbortSignal): Promise<{ engineId: string }>;
  /** Under a new lease. */
  start(progress: ReportProgress): Promise<void>;
  stop(): Promise<void>;
  /** `stop` for a box that is in trouble already: what goes wrong is logged, and the worker is gone in any case. */
  halt(): Promise<void>;
  remove(): Promise<void>;
  /** After the worker's death: a successor takes the engine over and the lost commands are ended. False: the engine is gone too. */
  succeed(reason: string): Promise<boolean>;
  /** Lets the worker go, whatever it does; the engine's end is the driver's or the next worker's business. */
  abandon(): Promise<void>;
  exec(order: ExecOrder): Promise<Exec>;
  cancelExec(execId: string): Promise<Exec>;
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
  const { writer, reader, pool, gate } = deps;
  const log = deps.log.child({ boxId: row.id });
  let current: WorkerHandle | null = null;

  function attach(worker: WorkerHandle): WorkerHandle {
    current = worker;
    worker.onEngineExit = (reason) => self.onEngineExit?.(reason);
    void worker.gone.then(() => {
      if (current !== worker) return; // It was let go.
      current = null;
      self.onLost?.();
    }, () => undefined);
    return worker;
  }

  async function letGo(): Promise<void> {
    const worker = current;
    current = null;
    await worker?.dismiss();
  }

  /** A worker for the present lease. */
  async function assign(): Promise<WorkerHandle> {
    const worker = await pool.take();
    try {
      await worker.peer.request('assign', assignmentOf(row, deps.instanceId));
    } catch (error) {
      await worker.kill();
      throw error;
    }
    return attach(worker);
  }

  async function openLease(): Promise<void> {
    const generation = row.generation + 1;
    await writer.request('openLease', { boxId: row.id, generation }, { resend: true });
    row.generation = generation;
  }

  async function closeLease(generation: number, reason: string): Promise<void> {
    await writer.request('closeLease', { boxId: row.id, generation, reason }, { resend: true });
    row.generation = Math.max(row.generation, generation + 1);
  }

  function living(): WorkerHandle | null {
    return current?.peer.isOpen === true ? current : null;
  }

  /** A worker under a new lease; its predecessor is dead. */
  async function successor(): Promise<WorkerHandle> {
    await current?.gone;
    current = null;
    await openLease();
    return assign();
  }

  /** A successor that has taken over what runs, its predecessor's commands ended. */
  async function takeOver(reason: string): Promise<{ worker: WorkerHandle; running: boolean }> {
    const worker = await successor();
    const finishedExecs = reader.finishedExecIds(row.id);
    const options = { timeoutMs: limits.boxStartTimeoutMs };
    const { running } = await worker.peer.request('reattach', { finishedExecs }, options);
    await closeLease(row.generation - 1, reason);
    return { worker, running };
  }

  async function stop(): Promise<void> {
    const worker = living() ?? (await takeOver('worker exited')).worker;
    await worker.peer.request('stop', {}, { timeoutMs: limits.boxStopTimeoutMs });
    await letGo();
  }

  const self: BoxWorker = {
    onLost: null,
    onEngineExit: null,
    get present() {
      return current === null ? null : { running: current.peer.hello.running };
    },
    async create(progress, signal) {
      const worker = await assign();
      const bringUp = async () => {
        const options = { onProgress: progress, signal };
        await worker.peer.request('prepareImage', {}, { ...options, timeoutMs: limits.imagePrepareTimeoutMs });
        const created = await worker.peer.request('create', {}, { ...options, timeoutMs: limits.boxStartTimeoutMs });
        await worker.peer.request('start', {}, { ...options, timeoutMs: limits.boxStartTimeoutMs });
        return created;
      };
      return gate.pass(imageKey(row), bringUp);
    },
    async start(progress) {
      await letGo();
      await openLease();
      const worker = await assign();
      const options = { onProgress: progress, timeoutMs: limits.imagePrepareTimeoutMs };
      await gate.pass(imageKey(row), async () => {
        await worker.peer.request('prepareImage', {}, options);
        await worker.peer.request('start', {}, { ...options, timeoutMs: limits.boxStartTimeoutMs });
      });
    },
    stop,
    async halt() {
      await stop().catch((error: unknown) => {
        log.error({ err: error }, 'stopping a box in trouble failed');
      });
      await letGo();
    },
    async remove() {
      const worker = living() ?? (await successor());
      await worker.peer.request('remove', {}, { timeoutMs: limits.boxRemoveTimeoutMs });
      await letGo();
      // Followers of a command that was lost hear of its end before its rows are gone.
      await closeLease(row.generation, 'the box was removed');
    },
    async succeed(reason) {
      if (current !== null) {
        await current.kill();
        await current.gone;
      }
      const { running } = await takeOver(reason);
      return running;
    },
    abandon: letGo,
    async exec(order) {
      return present().peer.request('exec', order, { timeoutMs: limits.execStartTimeoutMs });
    },
    async cancelExec(execId) {
      return present().peer.request('cancel', { execId }, { timeoutMs: limits.killTimeoutMs + limits.requestTimeoutMs });
    },
  };

  function present(): WorkerHandle {
    if (current !== null) return current;
    throw new BoxRunError('UNAVAILABLE', `box ${row.name ?? row.id} is being taken over by a new worker`);
  }

  if (adopted !== null) attach(adopted);
  return self;
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
  };
}
