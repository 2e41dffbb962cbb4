// The changes of all boxes and commands, over as many connections as it takes. Called by client.ts.
// Each change is given once and in order; where some are lost for good, `reset` says so.
import type { EventSourceMessage } from 'eventsource-parser';
import type { BoxStateData, ExecStateData, StateKind } from '../shared/api.ts';
import type { BoxRunError } from '../shared/errors.ts';
import { readOn } from './messages.ts';
import type { Transport } from './transport.ts';

interface Placed {
  /** To go on behind this event: `events({ since: id })`. */
  readonly id: string;
}

/** From here on every change is told: what is listed after `ready` misses nothing. */
export interface ReadyEvent extends Placed {
  readonly type: 'ready';
}

/** Changes before this are lost (too long ago, or the server was restarted): list anew. */
export interface ResetEvent extends Placed {
  readonly type: 'reset';
}

/** A box was made, has changed, or is gone; `box` as it was then. */
export interface BoxStateEvent extends Placed, BoxStateData {
  readonly type: Extract<StateKind, `box.${string}`>;
}

/** A command was started, or has ended; `exec` as it was then. */
export interface ExecStateEvent extends Placed, ExecStateData {
  readonly type: Extract<StateKind, `exec.${string}`>;
}

export type StateEvent = ReadyEvent | ResetEvent | BoxStateEvent | ExecStateEvent;

export interface StateEventsOptions {
  /** The id of the last event that is known; from now on when absent. */
  readonly since?: string | undefined;
  /**
   * Given up after so many connections in a row that did not come about; 12 (half a minute) when absent. May be
   * Infinity.
   */
  readonly attemptsMax?: number | undefined;
  /** Told whenever there is no connection, before the next try. */
  readonly onLost?: ((error: BoxRunError) => void) | undefined;
  /**
   * Told whenever a connection stands, again or for the first time; there may be nothing new to tell on it for long.
   */
  readonly onConnected?: (() => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const kinds: Readonly<Record<StateKind, true>> = {
  'box.created': true,
  'box.changed': true,
  'box.removed': true,
  'exec.started': true,
  'exec.finished': true,
};

/** @throws CANCELED; UNAVAILABLE when the server stays away */
export function readStateEvents(
  transport: Transport,
  { since, ...options }: StateEventsOptions,
): AsyncGenerator<StateEvent, void, void> {
  let lastId = since;
  return readOn<StateEvent>(transport, {
    ...options,
    path: () => `/v1/events${lastId === undefined ? '' : `?since=${encodeURIComponent(lastId)}`}`,
    name: () => 'the stream of changes',
    take(message) {
      if (message.id === undefined) return null;
      lastId = message.id;
      return { event: eventOf(message, message.id), isLast: false };
    },
  });
}

/** Null for what only a newer server tells. */
function eventOf({ event = '', data }: EventSourceMessage, id: string): StateEvent | null {
  if (event === 'ready' || event === 'reset') return { type: event, id };
  return Object.hasOwn(kinds, event) ? ({ type: event, id, ...(JSON.parse(data) as object) } as StateEvent) : null;
}
