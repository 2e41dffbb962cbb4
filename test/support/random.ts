// Numbers that a seed decides, for tests that can be replayed. Used by chaos; one value per actor, so that what one
// does depends on nobody's timing but its own.

export interface Random {
  /** From 0 on, below `count`. */
  below(count: number): number;
  pick<T>(values: readonly T[]): T;
}

/** mulberry32: good enough to choose, and a page of arithmetic shorter than anything better. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (count: number) => Math.floor(next() * count);
  return { below, pick: (values) => values[below(values.length)] as (typeof values)[number] };
}
