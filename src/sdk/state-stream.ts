// The state events of all boxes and commands. It reconnects when the connection is lost.
// Each event is given exactly once and in order. If the server no longer has some events, it sends `reset`.
import type { EventSourceMessage } from 'eventsource-parser';
import type { BoxStateData, ExecStateData, StateKind } from '../shared/api.ts';
import type { BoxRunError } from '../shared/errors.ts';
import { readOn } from './messages.ts';
import type { Transport } from './transport.ts';

interface WithId {
  /** `events({ since: id })` goes on after this event. */
  readonly id: string;
}

/** Every change after this event is given. So a list that is requested after `ready` misses no change. */
export interface ReadyEvent extends WithId {
  readonly type: 'ready';
}

/** Changes before this event are lost (too old, or the server was restarted). Request the lists again. */
export interface ResetEvent extends WithId {
  readonly type: 'reset';
}

/** A box was created, changed or removed. `box` shows its state at that time. */
export interface BoxStateEvent extends WithId, BoxStateData {
  readonly type: Extract<StateKind, `box.${string}`>;
}

/** A command was started or has ended. `exec` shows its state at that time. */
export interface ExecStateEvent extends WithId, ExecStateData {
  readonly type: Extract<StateKind, `exec.${string}`>;
}

export type StateEvent = ReadyEvent | ResetEvent | BoxStateEvent | ExecStateEvent;

export interface StateEventsOptions {
  /** Id of the last event that the caller knows; begins now when absent. */
  readonly since?: string | undefined;
  /**
   * Gives up after this number of attempts in a row without a single event; 12 (about 30 s) when absent. May be
   * Infinity. A connection that lasted more than 5 s begins the count anew.
   */
  readonly attemptsMax?: number | undefined;
  /** Called each time a connection fails or ends, before the next attempt. */
  readonly onLost?: ((error: BoxRunError) => void) | undefined;
  /**
   * Called each time the server has accepted a connection. The first event on it may come much later.
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

/** @throws CANCELED; UNAVAILABLE if the server stays away */
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

/** Null for an event type that only a newer server has. */
function eventOf({ event = '', data }: EventSourceMessage, id: string): StateEvent | null {
  if (event === 'ready' || event === 'reset') return { type: event, id };
  return Object.hasOwn(kinds, event) ? ({ type: event, id, ...(JSON.parse(data) as object) } as StateEvent) : null;
}
