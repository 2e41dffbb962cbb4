// First use of an image, one box at a time: pull, unpack and conversion are then done once, and the others find them ready.
// An image whose first use has gone well is open to all.

export interface ImageGate {
  /** Runs `work` alone while `key` is not proven; rejects with what `work` rejects with. */
  pass<T>(key: string, work: () => Promise<T>): Promise<T>;
}

export function createImageGate(): ImageGate {
  const proven = new Set<string>();
  const inside = new Map<string, Promise<unknown>>();

  return {
    async pass(key, work) {
      while (!proven.has(key) && inside.has(key)) await inside.get(key)?.catch(() => undefined);
      if (proven.has(key)) return work();
      const running = work();
      inside.set(key, running);
      try {
        const value = await running;
        proven.add(key);
        return value;
      } finally {
        inside.delete(key);
      }
    },
  };
}
