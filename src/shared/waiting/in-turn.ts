// Runs asynchronous work in the order of the calls: one at a time (`createInTurn`), or up to a number at once
// (`createTurns`). An error of one piece of work never stops the next one.
import { BoxRunError } from '../errors.ts';

export type InTurn = <T>(work: () => Promise<T>) => Promise<T>;

/** Makes a function that runs `work` after all earlier work has ended, with or without an error. */
export function createInTurn(): InTurn {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const turn = last.then(work, work);
    last = turn.catch(() => undefined);
    return turn;
  };
}

export interface Turns {
  /**
   * Runs `work` when there is a turn for it.
   * @throws what `work` throws; CANCELED if `signal` aborts before the work begins
   */
  take<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>;
  /** Calls of `take` that wait for a turn. */
  readonly waiting: number;
}

/**
 * Makes turns for `most` pieces of work at once. A turn ends when its work has ended, with or without an error, or
 * after `longestMs` milliseconds, so that work that hangs does not block the others. The work itself goes on, so more
 * than `most` may then run.
 */
export function createTurns(most: number, longestMs: number = Number.POSITIVE_INFINITY): Turns {
  const waiting = new Set<() => void>();
  let running = 0;

  function endTurn(): void {
    const [next] = waiting;
    if (next === undefined) {
      running--;
      return;
    }
    waiting.delete(next);
    next(); // The turn goes to it, so `running` stays the same.
  }

  function wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const begin = () => {
        signal?.removeEventListener('abort', giveUp);
        resolve();
      };
      const giveUp = () => {
        waiting.delete(begin);
        reject(new BoxRunError('CANCELED', 'canceled while waiting for its turn'));
      };
      waiting.add(begin);
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
      let hasEnded = false;
      const endTurnOnce = () => {
        if (!hasEnded) endTurn();
        hasEnded = true;
      };
      const timer = longestMs === Number.POSITIVE_INFINITY ? undefined : setTimeout(endTurnOnce, longestMs);
      try {
        return await work();
      } finally {
        clearTimeout(timer);
        endTurnOnce();
      }
    },
  };
}
