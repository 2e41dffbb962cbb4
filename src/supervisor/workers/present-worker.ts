// The worker that acts for one box now: adopts it, assigns it, stops it and reports its loss. There is at most one.
// A successor is assigned only when its predecessor is dead and the next generation is committed.
import { BoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import { assignmentOf } from './assignment.ts';
import type { Spills } from './spills.ts';
import type { BoxLease } from './box-lease.ts';
import type { WarmPool } from './warm-pool.ts';
import type { FoundWorker, WorkerHandle } from './worker-handle.ts';

export interface PresentWorkerDeps {
  readonly pool: Pick<WarmPool, 'take'>;
  readonly spills: Pick<Spills, 'sendLater'>;
  readonly instanceId: string;
  readonly lease: Pick<BoxLease, 'open'>;
  /**
   * The worker has died, and the supervisor had not stopped it. Also called after `kill`; the box then ignores it,
   * because a successor is on its way.
   */
  readonly onLost: () => void;
  readonly onEngineExit: (reason: string) => void;
  readonly onUnkillable: (reason: string) => void;
}

export interface PresentWorker {
  /** Null when there is none. It may have lost its connection already, and be about to die. */
  readonly handle: WorkerHandle | null;
  /** `handle` while its connection is open. */
  readonly connected: WorkerHandle | null;
  /** @throws UNAVAILABLE when there is none */
  required(): WorkerHandle;
  /**
   * Takes the worker that an earlier supervisor left, if it has the present lease. A worker with another lease is
   * killed.
   * @throws TIMEOUT when the worker neither answers nor dies
   */
  adopt(): Promise<void>;
  /** Kills the worker that an earlier supervisor left, if it was not adopted. @throws TIMEOUT when it does not die */
  killFound(): Promise<void>;
  /** Gives the box to a worker of the pool, under the present lease. @throws UNAVAILABLE when no worker comes up */
  assign(): Promise<WorkerHandle>;
  /** Waits until the predecessor is dead, opens the next lease, and assigns the box to another worker. */
  assignSuccessor(): Promise<WorkerHandle>;
  /** Stops the worker process. The engine goes on. @throws TIMEOUT when it does not die: it stays the present worker */
  stop(): Promise<void>;
  /** Kills the worker, and resolves when it is dead. The engine goes on. */
  kill(): Promise<void>;
}

/** @param found the worker that an earlier supervisor left for this box */
export function createPresentWorker(deps: PresentWorkerDeps, row: BoxRow, found: FoundWorker | null): PresentWorker {
  let current: WorkerHandle | null = null;
  let notAdopted = found;
  /** The supervisor stops this worker itself, so its end is no loss. */
  let stopping: WorkerHandle | null = null;

  function attach(worker: WorkerHandle): WorkerHandle {
    current = worker;
    worker.onEngineExit = deps.onEngineExit;
    worker.onUnkillable = deps.onUnkillable;
    const detach = () => {
      if (current === worker) current = null;
      if (stopping !== worker) deps.onLost();
    };
    worker.gone.then(detach, () => undefined);
    return worker;
  }

  async function killFound(): Promise<void> {
    await notAdopted?.end();
    notAdopted = null;
  }

  async function assign(): Promise<WorkerHandle> {
    const worker = await deps.pool.take();
    try {
      await worker.peer.request('assign', assignmentOf(row, deps.instanceId));
    } catch (error) {
      await worker.kill();
      throw error;
    }
    return attach(worker);
  }

  return {
    get handle() {
      return current;
    },
    get connected() {
      return current?.peer.isOpen === true ? current : null;
    },
    required() {
      if (current !== null) return current;
      throw new BoxRunError('UNAVAILABLE', `box ${row.name ?? row.id} is being taken over by a new worker`);
    },
    async adopt() {
      const worker = (await notAdopted?.arrival) ?? null;
      // A worker of another generation holds the home of the box. It must be dead before a successor comes.
      if (worker !== null && worker.peer.hello.generation !== row.generation) await worker.kill();
      else if (worker !== null) attach(worker);
      notAdopted = null;
    },
    killFound,
    assign,
    async assignSuccessor() {
      await killFound();
      await current?.gone;
      current = null;
      await deps.lease.open();
      faultPoint('supervisor.succession.leased');
      return assign();
    },
    async stop() {
      const worker = current;
      if (worker === null) return;
      stopping = worker;
      await worker.stop();
      current = null;
      void deps.spills.sendLater(row.id);
    },
    async kill() {
      const worker = current;
      await worker?.kill();
      await worker?.gone;
    },
  };
}
