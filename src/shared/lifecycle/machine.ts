// State tables: a table is the whole program of a state machine; `step` is pure.
// box.ts and exec.ts hold the tables; each owner (supervisor's box, worker's exec) is the only one to assign its state.

export type Table<State extends string, Cause extends string> = Readonly<
  Record<State, Readonly<Partial<Record<Cause, State>>>>
>;

/** The state that follows, or null where `cause` is not legal in `state`. */
export function step<State extends string, Cause extends string>(
  table: Table<State, Cause>,
  state: State,
  cause: Cause,
): State | null {
  return table[state][cause] ?? null;
}
