// A store holds a value, and redraws the components that use it when it changes.
// All state that outlives a single component is in a store.
import { useLayoutEffect, useReducer } from 'preact/hooks';

export interface Store<Value> {
  get(): Value;
  set(value: Value): void;
  /** Calls `listener` after each change. Returns a function that ends this. */
  subscribe(listener: () => void): () => void;
}

export function createStore<Value>(initial: Value): Store<Value> {
  let current = initial;
  const listeners = new Set<() => void>();
  return {
    get: () => current,
    set(value) {
      if (Object.is(value, current)) return;
      current = value;
      for (const listener of [...listeners]) listener();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

export function useStore<Value>(store: Pick<Store<Value>, 'get' | 'subscribe'>): Value {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const drawn = store.get();
  useLayoutEffect(() => {
    if (!Object.is(store.get(), drawn)) redraw(0); // The value has changed since the component was drawn.
    return store.subscribe(() => {
      redraw(0);
    });
  }, [store]);
  return drawn;
}
