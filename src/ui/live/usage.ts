// CPUs and memory that boxes use and reserve, now and over the last hour, from the server's stream of samples.
// If a restarted server sends a shorter history, the page keeps its own older samples.
import type { Box, BoxUsage, UsageEvent, UsageSample } from '../../sdk/browser.ts';
import { boxrun } from './client.ts';
import { createStore, type Store } from './store.ts';

interface Totals {
  readonly running: number;
  readonly all: number;
  readonly cpu: number;
  readonly memoryMb: number;
  readonly diskGb: number;
}

/**
 * What boxes reserve, by their public status: running boxes and boxes in creation reserve CPU and memory, every box
 * reserves its disk. A box in error may still hold CPU and memory; only the figures of the server count that.
 */
export function totalsOf(boxes: ReadonlyMap<string, Box>): Totals {
  const totals = { running: 0, all: boxes.size, cpu: 0, memoryMb: 0, diskGb: 0 };
  for (const box of boxes.values()) {
    totals.diskGb += box.disk_size_gb;
    if (box.status === 'running') totals.running++;
    if (box.status !== 'running' && box.status !== 'creating') continue;
    totals.cpu += box.cpu;
    totals.memoryMb += box.memory_mb;
  }
  return totals;
}

interface Usage {
  /** The samples of the last hour, oldest first. */
  readonly samples: Store<readonly UsageSample[]>;
  /** The current use of each running box, by its id. */
  readonly boxes: Store<Readonly<Record<string, BoxUsage>>>;
  /** Follows until `signal` aborts. */
  follow(signal: AbortSignal): Promise<void>;
}

const hourMs = 3_600_000;
/** Pause before the next attempt, after a failure other than a lost connection, in milliseconds. */
const retryMs = 5_000;

/** Adds the samples of `event` to the known ones. They replace known samples of the same time or later. */
export function withEvent(known: readonly UsageSample[], event: UsageEvent, now: number): readonly UsageSample[] {
  const received = event.type === 'history' ? event.samples : [event.sample];
  const first = received[0]?.at;
  const before = first === undefined ? known : known.filter(({ at }) => at < first);
  return [...before, ...received].filter(({ at }) => Date.parse(at) > now - hourMs);
}

function createUsage(): Usage {
  const samples = createStore<readonly UsageSample[]>([]);
  const boxes = createStore<Readonly<Record<string, BoxUsage>>>({});
  return {
    samples,
    boxes,
    async follow(signal) {
      // Browsers allow few connections to one server, so a hidden tab closes this one.
      let connection = new AbortController();
      document.addEventListener(
        'visibilitychange',
        () => {
          if (document.hidden) connection.abort();
        },
        { signal },
      );
      signal.addEventListener('abort', () => {
        connection.abort();
      });
      while (!signal.aborted) {
        await untilVisible(signal);
        connection = new AbortController();
        try {
          for await (const event of boxrun.usage({ attemptsMax: Infinity, signal: connection.signal })) {
            samples.set(withEvent(samples.get(), event, Date.now()));
            boxes.set(event.boxes);
          }
        } catch {
          // changes.ts shows what is wrong with the server.
          if (!document.hidden) await new Promise((resolve) => setTimeout(resolve, retryMs));
        }
      }
    },
  };
}

/** Resolves when the tab is visible, or `signal` aborts. */
function untilVisible(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const check = (): void => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener('visibilitychange', check);
      resolve();
    };
    document.addEventListener('visibilitychange', check);
    signal.addEventListener('abort', check, { once: true });
    check();
  });
}

export const usage: Usage = createUsage();
