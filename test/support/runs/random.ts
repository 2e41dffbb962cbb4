// Random numbers from a seed, so that a test can be repeated with the same choices. Each actor of a test has its own
// generator, so its choices do not depend on the timing of other actors.

export interface Random {
  /** A whole number from 0 to `count` - 1. */
  below(count: number): number;
  /** A whole number from `least` to `most`. */
  whole(least: number, most: number): number;
  bytes(length: number): Buffer;
  pick<T>(values: readonly T[]): T;
}

/** The generator is mulberry32, which is short and good enough for choices in tests. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (count: number) => Math.floor(next() * count);
  const whole = (least: number, most: number) => least + below(most - least + 1);
  return {
    below,
    whole,
    bytes: (length) => Buffer.from(Array.from({ length }, () => whole(0, 255))),
    pick: (values) => values[below(values.length)] as (typeof values)[number],
  };
}
