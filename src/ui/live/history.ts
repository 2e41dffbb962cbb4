// The last hour in figures, made of what the page sees: boxes and what they reserve, commands a second, and how long creates and
// short commands took. Begins when the page is opened; a reload goes on with what the tab remembers.
import type { Box, StateEvent } from '../../sdk/browser.ts';
import { changes, type Changes } from './changes.ts';
import { createStore, type Store } from './store.ts';

/** One moment. Times are milliseconds, null where there was none. */
export interface Sample {
  /** Seconds since 1970. */
  readonly at: number;
  readonly running: number;
  readonly cpu: number;
  readonly memoryMb: number;
  readonly execsPerSecond: number;
  readonly createMs: number | null;
  readonly execMs: number | null;
}

const sampleEveryMs = 5_000;
const samplesMax = 3_600_000 / sampleEveryMs;
const memoryKey = 'boxrun-history';

interface Totals {
  readonly running: number;
  readonly all: number;
  readonly cpu: number;
  readonly memoryMb: number;
  readonly diskGb: number;
}

/** What is in use: boxes that run or come up hold CPU and memory, every box holds its disk. */
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

interface History {
  readonly samples: Store<readonly Sample[]>;
  start(signal: AbortSignal): void;
}

function createHistory({ boxes, connection, onEvent }: Changes): History {
  const samples = createStore<readonly Sample[]>(remembered());
  let execs = 0;
  let creates: number[] = [];
  let execTimes: number[] = [];
  let since = Date.now();

  function note(event: StateEvent): void {
    if (event.type === 'exec.started') execs++;
    if (event.type === 'exec.finished' && event.exec.finished_at !== null) execTimes.push(between(event.exec.created_at, event.exec.finished_at));
    // A start leaves `created_at` as it was: only the first time up is the create.
    if (event.type === 'box.changed' && isFirstUp(event.box)) creates.push(between(event.box.created_at, event.at));
  }

  function isFirstUp(box: Box): boolean {
    return box.status === 'running' && boxes.get().get(box.id)?.status !== 'running' && box.stopped_at === null;
  }

  function take(): void {
    const now = Date.now();
    const { running, cpu, memoryMb } = totalsOf(boxes.get());
    const sample: Sample = {
      at: Math.round(now / 1000), running, cpu, memoryMb,
      execsPerSecond: (execs * 1000) / Math.max(1, now - since),
      createMs: median(creates), execMs: median(execTimes),
    };
    execs = 0;
    creates = [];
    execTimes = [];
    since = now;
    const next = [...samples.get(), sample].slice(-samplesMax);
    samples.set(next);
    remember(next);
  }

  return {
    samples,
    start(signal) {
      const stop = onEvent(note);
      const first = boxes.subscribe(() => {
        first();
        if (samples.get().length === 0) take();
      });
      const timer = setInterval(() => { if (connection.get() === 'live') take(); }, sampleEveryMs);
      signal.addEventListener('abort', () => {
        stop();
        clearInterval(timer);
      });
    },
  };
}

/** Of this tab. */
export const history: History = createHistory(changes);

function between(from: string, to: string): number {
  return Math.max(0, Date.parse(to) - Date.parse(from));
}

function median(values: readonly number[]): number | null {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? null;
}

function remembered(): readonly Sample[] {
  try {
    const oldest = Date.now() / 1000 - 3_600;
    return (JSON.parse(sessionStorage.getItem(memoryKey) ?? '[]') as Sample[]).filter(({ at }) => at > oldest);
  } catch {
    return []; // Storage may be forbidden, or hold something else: then the history begins now.
  }
}

function remember(samples: readonly Sample[]): void {
  try {
    sessionStorage.setItem(memoryKey, JSON.stringify(samples));
  } catch {
    // As above.
  }
}
