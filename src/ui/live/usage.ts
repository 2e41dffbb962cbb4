// What boxes use, now and over the last hour, as the server tells it.
// Where the server begins anew, the page keeps what it knows of before.
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

/** What is taken: boxes that run or come up hold CPU and memory, every box holds its disk. */
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
  /** Oldest first, of an hour at the most. */
  readonly samples: Store<readonly UsageSample[]>;
  /** By the id of the box; of those that run. */
  readonly boxes: Store<Readonly<Record<string, BoxUsage>>>;
  /** Follows until `signal` aborts. */
  follow(signal: AbortSignal): Promise<void>;
}

const hourMs = 3_600_000;
/** After a failure that is not the server's absence, the next try comes after so long (milliseconds). */
const retryMs = 5_000;

/** The samples that are known with those that `event` tells. */
export function withEvent(known: readonly UsageSample[], event: UsageEvent, now: number): readonly UsageSample[] {
  const told = event.type === 'history' ? event.samples : [event.sample];
  const first = told[0]?.at;
  const before = first === undefined ? known : known.filter(({ at }) => at < first);
  return [...before, ...told].filter(({ at }) => Date.parse(at) > now - hourMs);
}

function createUsage(): Usage {
  const samples = createStore<readonly UsageSample[]>([]);
  const boxes = createStore<Readonly<Record<string, BoxUsage>>>({});
  return {
    samples,
    boxes,
    async follow(signal) {
      // Browsers allow few connections to one server: a tab that nobody sees gives this one back.
      let left = new AbortController();
      document.addEventListener(
        'visibilitychange',
        () => {
          if (document.hidden) left.abort();
        },
        { signal },
      );
      signal.addEventListener('abort', () => {
        left.abort();
      });
      while (!signal.aborted) {
        await seen(signal);
        left = new AbortController();
        try {
          for await (const event of boxrun.usage({ attemptsMax: Infinity, signal: left.signal })) {
            samples.set(withEvent(samples.get(), event, Date.now()));
            boxes.set(event.boxes);
          }
        } catch {
          // changes.ts tells what is wrong with the server.
          if (!document.hidden) await new Promise((resolve) => setTimeout(resolve, retryMs));
        }
      }
    },
  };
}

function seen(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener('visibilitychange', look);
      resolve();
    };
    document.addEventListener('visibilitychange', look);
    signal.addEventListener('abort', look, { once: true });
    look();
  });
}

export const usage: Usage = createUsage();
