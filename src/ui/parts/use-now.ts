// The current time, for ages and durations. All components that use it are redrawn together, once a second.
// The timer runs only while a component uses it.
import { createStore, useStore } from '../live/store.ts';

const time = createStore(Date.now());
let subscribers = 0;
let timer: ReturnType<typeof setInterval> | null = null;

const ticking = {
  get: () => time.get(),
  subscribe(listener: () => void): () => void {
    const close = time.subscribe(listener);
    subscribers++;
    timer ??= setInterval(() => {
      time.set(Date.now());
    }, 1_000);
    return () => {
      close();
      subscribers--;
      if (subscribers > 0 || timer === null) return;
      clearInterval(timer);
      timer = null;
    };
  },
};

export function useNow(): number {
  return useStore(ticking);
}
