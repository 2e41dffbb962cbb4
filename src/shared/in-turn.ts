// One after the other, or so many at once: work in the order in which it was asked for.
// Used by the supervisor for the operations on a box and for starting workers, and by the worker for its calls to the engine.

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

/** Gives a function that runs `most` works at once, and each other one when one of them has ended, well or not. */
export function createTurns(most: number): InTurn {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (work) => {
    if (running < most) running++;
    else await new Promise<void>((resolve) => { waiting.push(resolve); });
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) running--;
      else next(); // It takes this one's turn.
    }
  };
}
