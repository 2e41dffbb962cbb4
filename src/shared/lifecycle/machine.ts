// State machines as tables. A table lists, for each state, the causes that are legal in it and the state that follows.
// `step` only looks up the next state; it changes nothing.

export type Table<State extends string, Cause extends string> = Readonly<
  Record<State, Readonly<Partial<Record<Cause, State>>>>
>;

/** The state that follows, or null if `cause` is not legal in `state`. */
export function step<State extends string, Cause extends string>(
  table: Table<State, Cause>,
  state: State,
  cause: Cause,
): State | null {
  return table[state][cause] ?? null;
}
