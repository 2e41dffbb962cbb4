// The time of day for ages and durations: moves on each second, together for all who show it, and only while somebody
// does. No request is made for it.
import { createStore, useStore } from '../live/store.ts';

const time = createStore(Date.now());
let watchers = 0;
let timer: ReturnType<typeof setInterval> | null = null;

const ticking = {
  get: () => time.get(),
  subscribe(listener: () => void): () => void {
    const stop = time.subscribe(listener);
    watchers++;
    timer ??= setInterval(() => {
      time.set(Date.now());
    }, 1_000);
    return () => {
      stop();
      watchers--;
      if (watchers > 0 || timer === null) return;
      clearInterval(timer);
      timer = null;
    };
  },
};

export function useNow(): number {
  return useStore(ticking);
}
