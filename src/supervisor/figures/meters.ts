// The metrics of the supervisor, and those that it collects: of its boxes, of every worker, of the writer, and of the
// restarts that the keeper has counted. A process that does not answer within limits.healthTimeoutMs is left out.
import { readFile } from 'node:fs/promises';
import { agentReasons, agentWays } from '../../shared/api.ts';
import type { WriterContract } from '../../shared/contracts/writer.ts';
import type { Link } from '../../shared/ipc/link.ts';
import { boxStates } from '../../shared/lifecycle/box.ts';
import { toBoxRunError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { Meters } from '../../shared/observe/metrics.ts';
import type { MetricsSnapshot } from '../../shared/observe/metrics-snapshot.ts';
import type { SupervisorContract } from '../../shared/contracts/supervisor.ts';
import type { Turns } from '../../shared/waiting/in-turn.ts';
import type { Handlers } from '../../shared/ipc/server.ts';
import { heldBy, type BoxRegistry } from '../boxes/box-registry.ts';
import { askWorkers, type WorkerFigures } from './worker-figures.ts';
import type { WorkerHandle } from '../workers/worker-handle.ts';

export interface SupervisorMetersDeps {
  readonly meters: Meters;
  readonly registry: Pick<BoxRegistry, 'all'>;
  readonly liveWorkers: ReadonlySet<WorkerHandle>;
  readonly writer: Pick<Link<WriterContract>, 'request'>;
  readonly limits: { readonly cpu: number; readonly memoryMb: number };
  readonly turns: Readonly<Record<'boxes' | 'workerStarts', Pick<Turns, 'waiting'>>>;
  /** The file in which the keeper counts its restarts of the other processes. */
  readonly keeperFile: string;
}

export interface SupervisorMeters {
  /** One snapshot of this process, with the figures of its workers added, and one of the writer. */
  gather(): Promise<MetricsSnapshot[]>;
  workerLost(): void;
}

export function createSupervisorMeters(deps: SupervisorMetersDeps): SupervisorMeters {
  const { meters, liveWorkers, writer } = deps;
  const updateBoxes = boxGauges(deps);
  const updateWorkers = workerGauges(meters);
  meters.gauge('queue_depth', 'Pieces of work that wait for their turn, by queue.', ['queue'], (gauge) => {
    gauge.set({ queue: 'box_turns' }, deps.turns.boxes.waiting);
    gauge.set({ queue: 'worker_starts' }, deps.turns.workerStarts.waiting);
  });
  const restarts = meters.gauge(
    'restarts',
    'Processes that were started again since the keeper (workers: the supervisor) started.',
    ['process'],
  );
  restarts.set({ process: 'worker' }, 0);

  return {
    workerLost() {
      restarts.inc({ process: 'worker' });
    },
    async gather() {
      const [figures, written] = await Promise.all([
        askWorkers(liveWorkers),
        writer.request('metrics', {}).catch(() => null),
      ]);
      updateBoxes();
      updateWorkers(figures);
      for (const [process, count] of await keeperRestarts(deps.keeperFile)) restarts.set({ process }, count);
      return [await meters.snapshot(), ...(written === null ? [] : [written])];
    },
  };
}

function boxGauges({ meters, registry, limits: max }: SupervisorMetersDeps): () => void {
  const boxes = meters.gauge('boxes', 'Boxes by state.', ['state']);
  const cpus = meters.gauge('cpus', 'CPUs of boxes: held, and how many may be.', ['kind']);
  const memory = meters.gauge('memory_bytes', 'Memory of boxes: held, and how much may be.', ['kind']);
  cpus.set({ kind: 'limit' }, max.cpu);
  memory.set({ kind: 'limit' }, max.memoryMb * 2 ** 20);
  return () => {
    const all = registry.all();
    for (const state of boxStates) boxes.set({ state }, all.filter((box) => box.state === state).length);
    const held = heldBy(all);
    cpus.set({ kind: 'held' }, held.cpus);
    memory.set({ kind: 'held' }, held.memoryMb * 2 ** 20);
  };
}

function workerGauges(meters: Meters): (asked: readonly WorkerFigures[]) => void {
  const workers = meters.gauge('workers', 'Worker processes: those of boxes, spares, and those that do not answer.', [
    'kind',
  ]);
  const resident = meters.gauge('workers_resident_bytes', 'Memory of all workers.');
  const running = meters.gauge('execs_running', 'Commands that run now.');
  const queued = meters.gauge(
    'worker_unacknowledged_bytes',
    'Output on its way to the writer; at unackedBytesMax a worker reads no more.',
  );
  const bounds = meters.counter(
    'bounds_hit_total',
    'Times that workers stopped reading output because unackedBytesMax was reached.',
    ['bound'],
  );
  const cpu = meters.gauge('box_cpu_seconds', 'CPU time that a box has used since it was started.', ['box']);
  const memory = meters.gauge('box_memory_bytes', 'Memory that a box uses.', ['box']);
  const ways = meters.gauge(
    'boxes_by_agent_way',
    'Running boxes, by how their commands start: by the agent (socket, vsock), or without it (none) and why.',
    ['way', 'reason'],
  );
  const seenPauses = new WeakMap<WorkerHandle, number>();
  bounds.inc({ bound: 'unackedBytesMax' }, 0);

  return (asked) => {
    const known = asked.flatMap(({ figures }) => figures ?? []);
    const sum = (of: (each: (typeof known)[number]) => number) => known.reduce((total, each) => total + of(each), 0);
    workers.set({ kind: 'box' }, known.filter(({ boxId }) => boxId !== null).length);
    workers.set({ kind: 'spare' }, known.filter(({ boxId }) => boxId === null).length);
    workers.set({ kind: 'silent' }, asked.length - known.length);
    resident.set(sum((each) => each.residentBytes));
    running.set(sum((each) => each.execsRunning));
    queued.set(sum((each) => each.unacknowledgedBytes));
    for (const way of agentWays)
      for (const reason of way === 'none' ? agentReasons : [null]) {
        const isOf = ({ agent }: (typeof known)[number]) => agent?.way === way && agent.reason === reason;
        ways.set({ way, reason: reason ?? '' }, known.filter(isOf).length);
      }
    cpu.reset();
    memory.reset();
    for (const { worker, figures } of asked) {
      if (figures === null) continue;
      bounds.inc({ bound: 'unackedBytesMax' }, Math.max(0, figures.outputPauses - (seenPauses.get(worker) ?? 0)));
      seenPauses.set(worker, figures.outputPauses);
      if (figures.boxId === null || figures.engine === null) continue;
      cpu.set({ box: figures.boxId }, figures.engine.cpuSeconds);
      memory.set({ box: figures.boxId }, figures.engine.memoryBytes);
    }
  };
}

async function keeperRestarts(path: string): Promise<[string, number][]> {
  const file = (await readFile(path, 'utf8')
    .then(JSON.parse)
    .catch(() => null)) as { restarts?: Record<string, number> } | null;
  return Object.entries(file?.restarts ?? {});
}

type Creating = Pick<Handlers<SupervisorContract>, 'createBox' | 'startBox' | 'restartBox'>;

/** Requests that are sent again and again and change nothing. They are not logged. */
const notLogged = new Set(['boxStats', 'health', 'metrics', 'reportFigures', 'usage']);

/** Adds a debug line to the log for each request: its id, its box and how it ended. It never logs a body. */
export function logged<H extends Readonly<Record<string, unknown>>>(handlers: H, log: Logger): H {
  const entries = Object.entries(handlers).map(([request, handler]) => {
    if (notLogged.has(request)) return [request, handler];
    const call = handler as (
      params: { box?: string; execId?: string },
      context: { requestId: string | null },
    ) => unknown;
    return [
      request,
      async (params: { box?: string; execId?: string }, context: { requestId: string | null }) => {
        const about = { requestId: context.requestId, request, box: params.box, execId: params.execId };
        try {
          const answer = await call(params, context);
          const { id } = (answer ?? {}) as { id?: string };
          log.debug({ ...about, id }, 'request done');
          return answer;
        } catch (error) {
          log.debug({ ...about, code: toBoxRunError(error).code }, 'request failed');
          throw error;
        }
      },
    ];
  });
  return Object.fromEntries(entries) as H;
}

/** Adds metrics to the handlers that create and start boxes: the times of their stages, and how they ended. */
export function measured<H extends Creating>(handlers: H, meters: Meters): H {
  const seconds = meters.histogram('box_start_seconds', 'Making or starting a box, by stage; `total` is all of it.', [
    'request',
    'stage',
  ]);
  const results = meters.counter('box_starts_total', 'Boxes made or started, by how it ended.', ['request', 'result']);
  const timed = <K extends keyof Creating>(name: K): Creating[K] => {
    const handler = handlers[name] as (...args: unknown[]) => Promise<{ timings?: Record<string, number> }>;
    const request = name.replace('Box', '');
    for (const result of ['done', 'failed']) results.inc({ request, result }, 0);
    return (async (...args: unknown[]) => {
      const startedAt = performance.now();
      try {
        const answer = await handler(...args);
        results.inc({ request, result: 'done' });
        for (const [stage, ms] of Object.entries(answer.timings ?? {})) seconds.observe({ request, stage }, ms / 1000);
        seconds.observe({ request, stage: 'total' }, (performance.now() - startedAt) / 1000);
        return answer;
      } catch (error) {
        results.inc({ request, result: 'failed' });
        throw error;
      }
    }) as Creating[K];
  };
  return {
    ...handlers,
    createBox: timed('createBox'),
    startBox: timed('startBox'),
    restartBox: timed('restartBox'),
  };
}
