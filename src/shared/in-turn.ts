// One after the other: work that must not overlap, in the order in which it was asked for.
// Used by the supervisor for the operations on a box, and by the worker for its calls to the engine.

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
