// Defines the result of a benchmark, and compares two sides. Both sides run alternately in the same run, so other work
// of the machine affects both.

export interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

export interface Measure {
  /** The name of the suite, and after a slash the name of the figure. */
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  /** Null if there is no reference. */
  readonly reference: number | null;
  /** The performance relative to the reference: 1 is equal, and 2 is twice as good, for `more` and for `less`. */
  readonly ratio: number | null;
  /** The percentiles of single operations in ms, if they were timed. */
  readonly percentiles: { readonly ours: Percentiles; readonly reference: Percentiles | null } | null;
  readonly goal: { readonly text: string; readonly met: boolean } | null;
}

export interface Context {
  readonly isShort: boolean;
  /** The directory for CPU profiles of the processes of the server, or null. */
  readonly profileDir: string | null;
  /** Prints a line about the progress. */
  say(text: string): void;
}

export interface Suite {
  readonly name: string;
  /** True if the suite runs only when it is named: it needs VMs, or it has no reference. */
  readonly onlyByName?: boolean;
  run(context: Context): Promise<Measure[]>;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

export function percentilesOf(samples: readonly number[]): Percentiles {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99) };
}

/** The result of one round of one side: its figure and, if they were timed, the milliseconds of single operations. */
export interface Round {
  readonly figure: number;
  readonly samples?: readonly number[];
}

export type Side = () => Promise<Round>;

export interface Comparison {
  readonly name: string;
  readonly unit: string;
  readonly better: 'more' | 'less';
  readonly rounds: number;
  readonly ours: Side;
  readonly reference: Side;
  /** Judges the result. */
  readonly goal?: (result: Omit<Measure, 'goal'>) => Measure['goal'];
}

/** Runs each side once without counting, then both sides in each round. The side that begins changes each round. */
export async function compare({ name, unit, better, rounds, ours, reference, goal }: Comparison): Promise<Measure> {
  const sides = { ours: await emptyTally(ours), reference: await emptyTally(reference) };
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? [sides.ours, sides.reference] : [sides.reference, sides.ours];
    for (const side of order) await side.take();
  }
  const ratios = sides.ours.figures.map((figure, round) => {
    const other = sides.reference.figures[round] ?? Number.NaN;
    return better === 'more' ? figure / other : other / figure;
  });
  const samples = sides.ours.samples.length > 0 && sides.reference.samples.length > 0;
  const result = {
    name,
    unit,
    ours: median(sides.ours.figures),
    reference: median(sides.reference.figures),
    ratio: median(ratios),
    percentiles: samples
      ? { ours: percentilesOf(sides.ours.samples), reference: percentilesOf(sides.reference.samples) }
      : null,
  };
  return { ...result, goal: goal?.(result) ?? null };
}

async function emptyTally(side: Side) {
  const figures: number[] = [];
  const samples: number[] = [];
  await side();
  return {
    figures,
    samples,
    async take() {
      (globalThis as { gc?: () => void }).gc?.();
      const round = await side();
      figures.push(round.figure);
      for (const sample of round.samples ?? []) samples.push(sample); // A spread would have too many arguments.
    },
  };
}

/** Makes a figure without a reference. */
export function single(name: string, unit: string, ours: number, goal: Measure['goal'] = null): Measure {
  return { name, unit, ours, reference: null, ratio: null, percentiles: null, goal };
}

/** Makes the goal that the ratio is at least `least`. */
export const ratioAtLeast =
  (least: number) =>
  ({ ratio }: Omit<Measure, 'goal'>): Measure['goal'] => ({
    text: `≥ ${least}`,
    met: (ratio ?? 0) >= least,
  });

/** Runs `parallel` loops for `durationMs`. Measures the operations per second, and the time of each operation. */
export async function throughput(
  parallel: number,
  durationMs: number,
  operation: (lane: number) => Promise<void>,
): Promise<Round> {
  const samples: number[] = [];
  const startedAt = performance.now();
  const lane = async (index: number) => {
    while (performance.now() - startedAt < durationMs) {
      const from = performance.now();
      await operation(index);
      samples.push(performance.now() - from);
    }
  };
  await Promise.all(Array.from({ length: parallel }, (_, index) => lane(index)));
  return { figure: samples.length / ((performance.now() - startedAt) / 1000), samples };
}

/** Runs `count` operations one after the other. Measures their median time. */
export async function latency(count: number, operation: () => Promise<void>): Promise<Round> {
  const samples: number[] = [];
  for (let index = 0; index < count; index++) {
    const from = performance.now();
    await operation();
    samples.push(performance.now() - from);
  }
  return { figure: median(samples), samples };
}
