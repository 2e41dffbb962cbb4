// Doubles around one box of the supervisor: a worker whose calls the test controls, and a writer that keeps the rows in
// memory.
import type { Exec } from '../../../src/shared/api.ts';
import type { WriterContract } from '../../../src/shared/contracts/writer.ts';
import { BoxRunError } from '../../../src/shared/errors.ts';
import type { Link } from '../../../src/shared/ipc/link.ts';
import { holdsQuota } from '../../../src/shared/lifecycle/box.ts';
import type { ServerPeer } from '../../../src/shared/ipc/client.ts';
import type { WorkerContract } from '../../../src/shared/contracts/worker.ts';
import type { BoxRow } from '../../../src/shared/store/rows.ts';
import type { BoxWorker } from '../../../src/supervisor/workers/box-worker.ts';
import { createBox, type SupervisedBox } from '../../../src/supervisor/boxes/box.ts';
import { createQuota, type Quota } from '../../../src/supervisor/admission/quota.ts';
import type { FoundWorker, WorkerHandle } from '../../../src/supervisor/workers/worker-handle.ts';
import { controlledPromise, quietLog } from '../../support/runs/unit.ts';
import { boxRow } from '../writer/setup.ts';

type WorkerCall = 'adopt' | 'create' | 'start' | 'stop' | 'tryStop' | 'remove' | 'takeOver' | 'release';

export interface WorkerDouble extends BoxWorker {
  /** What the present worker says of its engine. Null: there is no worker. */
  present: { readonly running: boolean } | null;
  readonly calls: string[];
  /** Replaces what a call does. If the function throws, the call throws the same error. */
  readonly on: Partial<Record<WorkerCall, (signal?: AbortSignal) => Promise<unknown>>>;
}

export function createWorkerDouble(present: { readonly running: boolean } | null = null): WorkerDouble {
  const calls: string[] = [];
  const on: WorkerDouble['on'] = {};
  const call = async (name: WorkerCall, signal?: AbortSignal): Promise<unknown> => {
    calls.push(name);
    return on[name]?.(signal);
  };
  return {
    present,
    calls,
    on,
    onLost: null,
    onEngineExit: null,
    onUnkillable: null,
    create: async (_, signal) =>
      ((await call('create', signal)) as { engineId: string } | undefined) ?? { engineId: 'engine-1' },
    async start() {
      await call('start');
    },
    async stop() {
      await call('stop');
    },
    tryStop: async () =>
      call('tryStop').then(
        (ended) => ended !== false,
        () => false,
      ),
    async remove() {
      await call('remove');
    },
    takeOver: async () => ((await call('takeOver')) as boolean | undefined) ?? true,
    async release() {
      await call('release');
    },
    exec: async (order) => ({ id: 'exec_1', cmd: order.cmd }) as Exec,
    cancelExec: async (id) => ({ id }) as Exec,
    signalExec: async (id) => ({ id }) as Exec,
    stats: async () => {
      throw new Error('not used');
    },
    processes: async () => {
      throw new Error('not used');
    },
    ports: async () => {
      throw new Error('not used');
    },
    signalProcess: async () => {
      throw new Error('not used');
    },
    openStream: async () => {
      throw new Error('not used');
    },
    async adopt() {
      await on.adopt?.();
      return this.present;
    },
    async isRunning() {
      return this.present?.running ?? null;
    },
  };
}

export interface RowsDouble {
  readonly writer: Pick<Link<WriterContract>, 'request'>;
  /** The committed rows. */
  readonly rows: Map<string, Record<string, unknown>>;
  readonly requests: string[];
  /** The errors for requests to the writer, by their method, until they are deleted. */
  readonly failures: Map<string, BoxRunError>;
}

export function createRowsDouble(...initial: BoxRow[]): RowsDouble {
  const rows = new Map<string, Record<string, unknown>>(initial.map((row) => [row.id, { ...row }]));
  const requests: string[] = [];
  const failures = new Map<string, BoxRunError>();
  const request = async (method: string, params: unknown) => {
    const {
      boxId = '',
      change = {},
      box,
    } = params as { boxId?: string; change?: Record<string, unknown>; box?: BoxRow };
    const what = typeof change['state'] === 'string' ? change['state'] : Object.keys(change).join(',');
    requests.push(method === 'updateBox' ? `updateBox ${what}` : method);
    await Promise.resolve();
    const failure = failures.get(method);
    if (failure !== undefined) throw failure;
    if (method === 'insertBox' && box !== undefined) rows.set(box.id, { ...box });
    if (method === 'updateBox') rows.set(boxId, { ...rows.get(boxId), ...change });
    if (method === 'removeBox') rows.delete(boxId);
    return null as never;
  };
  return { writer: { request }, rows, requests, failures };
}

export interface BoxBench extends RowsDouble {
  readonly box: SupervisedBox;
  readonly worker: WorkerDouble;
  readonly quota: Quota;
  readonly events: string[];
  /** The committed row. */
  committed(): Record<string, unknown> | undefined;
  /** How many of the 4 CPUs are free. */
  freeCpus(): number;
}

export function createBoxBench(
  change: Partial<BoxRow> = {},
  present: { readonly running: boolean } | null = null,
): BoxBench {
  const row = boxRow({ name: 'web', cpu: 4, ...change });
  const rows = createRowsDouble(row);
  const worker = createWorkerDouble(present);
  const quota = createQuota({ cpu: 4, memoryMb: 10_000, workers: null });
  if (holdsQuota(row.state)) quota.adopt(row.id, row.cpu, row.memory_mb);
  const events: string[] = [];
  const box = createBox(
    {
      writer: rows.writer,
      quota,
      log: quietLog,
      worker,
      onRemoved: () => events.push('removed'),
      onNameReleased: () => events.push('name released'),
      claimIdBlock: () => null,
    },
    row,
  );
  return {
    ...rows,
    box,
    worker,
    quota,
    events,
    committed: () => rows.rows.get(row.id),
    freeCpus() {
      for (let cpus = 4; cpus > 0; cpus--) {
        try {
          quota.reserve('probe', cpus, 1);
          quota.release('probe');
          return cpus;
        } catch {
          // Less is free.
        }
      }
      return 0;
    },
  };
}

export interface HandleDouble extends WorkerHandle {
  readonly requests: string[];
  readonly events: string[];
  /** The answers of the worker by their method. A method without one gets the default answer. */
  readonly answers: Partial<Record<string, (params: unknown) => Promise<unknown>>>;
  /** The process dies without a request. */
  die(): void;
}

/** A worker as the supervisor sees it, without a process. */
export function createHandleDouble(
  hello: Partial<ServerPeer<WorkerContract>['hello']> = {},
  workerId = 'wrk_1',
): HandleDouble {
  const closed = controlledPromise<string>();
  const requests: string[] = [];
  const events: string[] = [];
  let open = true;
  const die = () => {
    if (!open) return;
    open = false;
    closed.resolve('dead');
  };
  const peer: ServerPeer<WorkerContract> = {
    hello: { workerId, pid: 1, boxId: null, generation: 0, running: false, ...hello },
    closed: closed.promise,
    get isOpen() {
      return open;
    },
    get isAnswering() {
      return open;
    },
    close: die,
    async request(method, params) {
      requests.push(method);
      if (!open) throw new BoxRunError('UNAVAILABLE', 'the connection has ended');
      const answer = handle.answers[method]?.(params) ?? defaultAnswer(method);
      const lost = closed.promise.then(() => {
        throw new BoxRunError('UNAVAILABLE', 'the connection ended');
      });
      return (await Promise.race([answer, lost])) as never;
    },
  };
  const handle: HandleDouble = {
    workerId,
    peer,
    requests,
    events,
    answers: {},
    gone: closed.promise.then(() => undefined),
    onEngineExit: null,
    onUnkillable: null,
    greet: async () => (handle.answers['hello'] === undefined ? peer.hello : null),
    die,
    async stop() {
      events.push('stopped');
      die();
    },
    async kill() {
      events.push('killed');
      die();
    },
  };
  return handle;
}

/** Wraps a handle as a worker that an earlier supervisor left, and that has already said hello. */
export function foundDouble(handle: HandleDouble): FoundWorker {
  const { workerId, peer } = handle;
  return { workerId, boxId: peer.hello.boxId, arrival: Promise.resolve(handle), end: () => handle.kill() };
}

async function defaultAnswer(method: string): Promise<unknown> {
  if (method === 'create') return { engineId: 'engine-1' };
  if (method === 'adopt') return { running: true, execIds: [] };
  return method === 'reattach' ? { running: true } : null;
}

export const noProgress = () => undefined;
