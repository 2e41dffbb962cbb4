// One after the other, or so many at once: work in the order in which it was asked for.
// Used by the supervisor for the operations on a box, for starting workers and for boxes that come and go together, and
// by the worker for its calls to the engine.
import { BoxRunError } from '../errors.ts';

export type InTurn = <T>(work: () => Promise<T>) => Promise<T>;

/** Gives a function that runs each `work` when everything given to it before has ended, well or not. */
export function createInTurn(): InTurn {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const turn = last.then(work, work);
    last = turn.catch(() => undefined);
    return turn;
  };
}

export interface Turns {
  /** Does `work` when its turn has come. @throws what `work` throws; CANCELED when `signal` aborts before */
  take<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>;
  readonly waiting: number;
}

/**
 * Turns for `most` works at once; each other one begins when one of them has ended, well or not, or has lasted for
 * `longestMs` milliseconds: what hangs keeps nobody waiting for longer.
 */
export function createTurns(most: number, longestMs: number = Number.POSITIVE_INFINITY): Turns {
  const waiting = new Set<() => void>();
  let running = 0;

  function pass(): void {
    const [next] = waiting;
    if (next === undefined) {
      running--;
      return;
    }
    waiting.delete(next);
    next(); // It takes this one's turn.
  }

  function wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = () => {
        signal?.removeEventListener('abort', giveUp);
        resolve();
      };
      const giveUp = () => {
        waiting.delete(go);
        reject(new BoxRunError('CANCELED', 'canceled while waiting for its turn'));
      };
      waiting.add(go);
      signal?.addEventListener('abort', giveUp, { once: true });
      if (signal?.aborted === true) giveUp();
    });
  }

  return {
    get waiting() {
      return waiting.size;
    },
    async take(work, signal) {
      if (running < most) running++;
      else await wait(signal);
      let passed = false;
      const passOnce = () => {
        if (!passed) pass();
        passed = true;
      };
      const timer = longestMs === Number.POSITIVE_INFINITY ? undefined : setTimeout(passOnce, longestMs);
      try {
        return await work();
      } finally {
        clearTimeout(timer);
        passOnce();
      }
    },
  };
}
