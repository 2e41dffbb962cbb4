// Parses the last part of a path: an id or a name, and after a colon an action, as in `/v1/boxes/web:stop`.
// The first colon separates them, because ids and names contain no colon.
import { BoxRunError } from '../../shared/errors.ts';

export interface Target {
  readonly key: string;
  readonly action: string | null;
}

export function parseTarget(text: string): Target {
  const colon = text.indexOf(':');
  return colon < 0 ? { key: text, action: null } : { key: text.slice(0, colon), action: text.slice(colon + 1) };
}

/** The id or the name only. Reads and removals use it, so they ignore an action in the path. */
export function keyOf(text: string): string {
  return parseTarget(text).key;
}

/** The error for an action that is missing or not one of `known`. */
export function unknownAction(action: string | null, known: readonly string[]): BoxRunError {
  const actions = known.map((name) => `:${name}`).join(', ');
  return action === null || action === ''
    ? new BoxRunError('VALIDATION_ERROR', 'the action is missing', {
        status: 400,
        hint: `add one of ${actions} to the path`,
      })
    : new BoxRunError('VALIDATION_ERROR', `there is no action ':${action}'`, {
        status: 400,
        hint: `use one of ${actions}`,
      });
}
