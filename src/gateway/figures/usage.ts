// The history of the last hour: what boxes reserve and use, and how fast this gateway answered its clients.
// The gateway takes a sample every few seconds, also without readers, so that the dashboard can show the past when a
// user opens it. The history is only in memory, so a new gateway begins with an empty one.
import { statfs } from 'node:fs/promises';
import type { FastifyInstance } from 'fastify';
import type { BoxUsage, UsageHistory, UsageSample, UsageUpdate } from '../../shared/api.ts';
import type { SupervisorContract } from '../../shared/contracts/supervisor.ts';
import type { ResultOf } from '../../shared/ipc/contract.ts';
import type { Link } from '../../shared/ipc/link.ts';
import { limits } from '../../shared/limits.ts';
import { raceAbort } from '../live/topics.ts';

export type UsageMessage =
  { readonly kind: 'history'; readonly value: UsageHistory } | { readonly kind: 'sample'; readonly value: UsageUpdate };

export interface Usage {
  /** Counts and times the answers of `app`. */
  watch(app: FastifyInstance): void;
  /** Takes a sample now, and then one every `everyMs` until `signal` aborts. */
  start(signal: AbortSignal): void;
  /**
   * Gives the history, and then each new sample. A slow reader gets only the newest sample and misses earlier ones.
   * @throws CANCELED when `signal` aborts
   */
  read(signal: AbortSignal): AsyncGenerator<UsageMessage, void, void>;
}

type Held = ResultOf<SupervisorContract, 'usage'>;

export interface UsageDeps {
  readonly supervisor: Pick<Link<SupervisorContract>, 'request'>;
  readonly maxBoxes: number;
  /** The samples contain the size and the free space of its file system. */
  readonly stateDir: string;
  /** Milliseconds between two samples; limits.usageSampleMs when absent. */
  readonly everyMs?: number;
}

export function createUsage({ supervisor, maxBoxes, stateDir, everyMs = limits.usageSampleMs }: UsageDeps): Usage {
  const answers = createAnswerTimes();
  const engines = createEngineMeter();
  const samples: UsageSample[] = [];
  let boxes: Record<string, BoxUsage> = {};
  let waiting: (() => void)[] = [];
  let isTaking = false;

  /** Takes one sample. While the supervisor is down it takes none, so the history has a gap. */
  async function takeSample(): Promise<void> {
    if (isTaking) return;
    isTaking = true;
    try {
      const [held, { bavail, blocks, bsize }] = await Promise.all([supervisor.request('usage', {}), statfs(stateDir)]);
      boxes = engines.usageOf(held.engines);
      const megabytes = (count: number): number => Math.floor((count * bsize) / 2 ** 20);
      const disk = { disk_free_mb: megabytes(bavail), disk_size_mb: megabytes(blocks) };
      samples.push({ ...sampleOf(held, boxes, answers.takeAll()), max_boxes: maxBoxes, ...disk });
      samples.splice(0, samples.length - limits.usageSamplesMax);
      for (const wake of waiting.splice(0)) wake();
    } catch {
      answers.takeAll();
    } finally {
      isTaking = false;
    }
  }

  return {
    watch: answers.watch,
    start(signal) {
      void takeSample();
      const timer = setInterval(() => void takeSample(), everyMs);
      signal.addEventListener(
        'abort',
        () => {
          clearInterval(timer);
        },
        { once: true },
      );
    },
    async *read(signal) {
      let lastSent = samples.at(-1);
      yield { kind: 'history', value: { samples: [...samples], boxes } };
      for (;;) {
        const sample = samples.at(-1);
        if (sample !== undefined && sample !== lastSent) {
          lastSent = sample;
          yield { kind: 'sample', value: { sample, boxes } };
          continue;
        }
        let wake = () => {};
        try {
          await raceAbort(
            new Promise<void>((resolve) => {
              waiting.push((wake = resolve));
            }),
            signal,
          );
        } finally {
          waiting = waiting.filter((each) => each !== wake);
        }
      }
    },
  };
}

type Sampled = Omit<UsageSample, 'max_boxes' | 'disk_free_mb' | 'disk_size_mb'>;

function sampleOf(
  { running, boxes: count, cpusHeld, memoryHeldMb }: Held,
  boxes: Readonly<Record<string, BoxUsage>>,
  times: AnswerTimes,
): Sampled {
  const all = Object.values(boxes);
  return {
    at: new Date().toISOString(),
    boxes_running: running,
    boxes: count,
    cpu_reserved: cpusHeld,
    memory_reserved_mb: memoryHeldMb,
    cpu_used: rounded(all.reduce((sum, box) => sum + (box.cpu_used ?? 0), 0)),
    memory_used_mb: rounded(all.reduce((sum, box) => sum + box.memory_used_mb, 0)),
    execs_per_second: rounded(times.execsPerSecond),
    create_ms: times.createMs,
    exec_ms: times.execMs,
  };
}

/** Computes how many CPUs each engine used since the last call, from the growth of its CPU seconds. */
function createEngineMeter() {
  let before = new Map<string, number>();
  let takenAt = performance.now();
  return {
    usageOf(engines: Held['engines']): Record<string, BoxUsage> {
      const now = performance.now();
      const seconds = Math.max(0.001, (now - takenAt) / 1000);
      const usage = engines.map(({ boxId, cpuSeconds, memoryBytes, agent }): [string, BoxUsage] => {
        const known = before.get(boxId);
        // A restarted engine counts from zero again, so the difference can be negative.
        const used = known === undefined ? null : rounded(Math.max(0, cpuSeconds - known) / seconds);
        const memoryMb = rounded(memoryBytes / 2 ** 20);
        return [boxId, { cpu_used: used, memory_used_mb: memoryMb, ...(agent === undefined ? {} : { agent }) }];
      });
      before = new Map(engines.map(({ boxId, cpuSeconds }) => [boxId, cpuSeconds]));
      takenAt = now;
      return Object.fromEntries(usage);
    },
  };
}

interface AnswerTimes {
  readonly execsPerSecond: number;
  readonly createMs: number | null;
  readonly execMs: number | null;
}

/** Measures creates and execs in milliseconds, from the head of the request to the end of its answer. */
function createAnswerTimes() {
  let execs = 0;
  let createMs: number[] = [];
  let execMs: number[] = [];
  let since = performance.now();
  return {
    watch(app: FastifyInstance): void {
      app.addHook('onResponse', ({ method, routeOptions: { url } }, { statusCode, elapsedTime }, done) => {
        done();
        if (method !== 'POST' || statusCode >= 300) return;
        if (url === '/v1/boxes/:box/exec' || url === '/v1/run') execs++;
        const times = url === '/v1/boxes/:box/exec' ? execMs : url === '/v1/boxes' ? createMs : null;
        if (times !== null && times.length < limits.usageTimesMax) times.push(elapsedTime);
      });
    },
    takeAll(): AnswerTimes {
      const now = performance.now();
      const taken = {
        execsPerSecond: (execs * 1000) / Math.max(1, now - since),
        createMs: median(createMs),
        execMs: median(execMs),
      };
      execs = 0;
      createMs = [];
      execMs = [];
      since = now;
      return taken;
    },
  };
}

function median(values: readonly number[]): number | null {
  const middle = [...values].sort((a, b) => a - b)[values.length >> 1];
  return middle === undefined ? null : rounded(middle);
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
