// The last hour of this server: what boxes reserve and use, and how fast clients were answered. One moment is taken
// every few seconds, whether anybody looks or not, so that who opens the dashboard sees what was. Made by main.ts,
// given out by routes/usage.ts. It is kept in memory: another gateway begins anew.
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
  /** Counts the answers of `app`. */
  watch(app: FastifyInstance): void;
  /** Takes a moment, and from then on one every few seconds, until `signal` aborts. */
  start(signal: AbortSignal): void;
  /**
   * The history, then each moment as it is taken; of a reader that is slow, those in between are left out.
   * @throws CANCELED when `signal` aborts
   */
  read(signal: AbortSignal): AsyncGenerator<UsageMessage, void, void>;
}

type Held = ResultOf<SupervisorContract, 'usage'>;

export interface UsageDeps {
  readonly supervisor: Pick<Link<SupervisorContract>, 'request'>;
  readonly maxBoxes: number;
  /** On the file system whose size and free space are told. */
  readonly stateDir: string;
  /** limits.usageSampleMs when absent. */
  readonly everyMs?: number;
}

export function createUsage({ supervisor, maxBoxes, stateDir, everyMs = limits.usageSampleMs }: UsageDeps): Usage {
  const answers = createAnswerTimes();
  const engines = createEngineMeter();
  const samples: UsageSample[] = [];
  let boxes: Record<string, BoxUsage> = {};
  let waiting: (() => void)[] = [];
  let isTaking = false;

  /** While the supervisor is away there is nothing to tell: a gap. */
  async function take(): Promise<void> {
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
      void take();
      const timer = setInterval(() => void take(), everyMs);
      signal.addEventListener(
        'abort',
        () => {
          clearInterval(timer);
        },
        { once: true },
      );
    },
    async *read(signal) {
      let told = samples.at(-1);
      yield { kind: 'history', value: { samples: [...samples], boxes } };
      for (;;) {
        const sample = samples.at(-1);
        if (sample !== undefined && sample !== told) {
          told = sample;
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

/** Turns the CPU seconds of engines into CPUs, by what they were the time before. */
function createEngineMeter() {
  let before = new Map<string, number>();
  let takenAt = performance.now();
  return {
    usageOf(engines: Held['engines']): Record<string, BoxUsage> {
      const now = performance.now();
      const seconds = Math.max(0.001, (now - takenAt) / 1000);
      const usage = engines.map(({ boxId, cpuSeconds, memoryBytes }): [string, BoxUsage] => {
        const known = before.get(boxId);
        // An engine that was started again counts from zero.
        const used = known === undefined ? null : rounded(Math.max(0, cpuSeconds - known) / seconds);
        return [boxId, { cpu_used: used, memory_used_mb: rounded(memoryBytes / 2 ** 20) }];
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

/** How long creates and execs took, from the head of the request to the end of its answer. */
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
