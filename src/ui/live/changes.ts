// All boxes of the server as they are now, and the events of its commands. It lists the boxes once and then applies
// state events; it never polls. Changes of boxes are shown together, at most once in each frame.
import type { Box, BoxHandle, Exec, Info, StateEvent } from '../../sdk/browser.ts';
import { boxrun, isCode } from './client.ts';
import { createStore, type Store } from './store.ts';

/**
 * - `loading`: no data yet
 * - `live`: the data is current
 * - `lost`: the server is away, and the data is from before
 * - `refused`: the server needs a token
 */
export type Connection = 'loading' | 'live' | 'lost' | 'refused';

export interface Changes {
  readonly connection: Store<Connection>;
  readonly boxes: Store<ReadonlyMap<string, Box>>;
  readonly info: Store<Info | null>;
  /** The last error that ended the stream; null after the boxes were listed again. */
  readonly failure: Store<unknown>;
  /**
   * Calls `listener` with each state event. At the call for a change of a box, `boxes` does not have the change yet. At
   * the call for `ready` or `reset`, `boxes` has the new list. Returns a function that ends this.
   */
  onEvent(listener: (event: StateEvent) => void): () => void;
  /** Follows until `signal` aborts. */
  follow(signal: AbortSignal): Promise<void>;
}

/** Pause before the next attempt, after a failure other than a lost connection, in milliseconds. */
const retryMs = 3_000;

function createChanges(): Changes {
  const connection = createStore<Connection>('loading');
  const boxes = createStore<ReadonlyMap<string, Box>>(new Map());
  const info = createStore<Info | null>(null);
  const failure = createStore<unknown>(null);
  const listeners = new Set<(event: StateEvent) => void>();
  let current = new Map<string, Box>();
  let frame: number | null = null;

  function show(): void {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      boxes.set(new Map(current));
    });
  }

  async function listAll(signal: AbortSignal): Promise<void> {
    const [rows, facts] = await Promise.all([boxrun.listBoxes({}, { signal }), boxrun.info({ signal })]);
    current = new Map(rows.map((row: BoxHandle) => [row.id, row]));
    boxes.set(new Map(current));
    info.set(facts);
    failure.set(null);
    connection.set('live');
  }

  async function take(event: StateEvent, signal: AbortSignal): Promise<void> {
    if (event.type === 'ready' || event.type === 'reset') await listAll(signal);
    else if (event.type === 'box.removed') current.delete(event.box.id);
    else if (event.type === 'box.created' || event.type === 'box.changed') current.set(event.box.id, event.box);
    if (event.type.startsWith('box.')) show();
    for (const listener of [...listeners]) listener(event);
  }

  async function followOnce(signal: AbortSignal): Promise<void> {
    const events = boxrun.events({
      attemptsMax: Infinity,
      signal,
      onLost: () => {
        if (connection.get() === 'live') connection.set('lost');
      },
      // The server sends no event if nothing has changed meanwhile. Then the shown data is current again.
      onConnected: () => {
        if (connection.get() === 'lost') connection.set('live');
      },
    });
    for await (const event of events) await take(event, signal);
  }

  return {
    connection,
    boxes,
    info,
    failure,
    onEvent(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async follow(signal) {
      while (!signal.aborted) {
        try {
          await followOnce(signal);
        } catch (error) {
          if (signal.aborted) return;
          failure.set(error);
          const isRefused = isCode(error, 'UNAUTHORIZED') || isCode(error, 'FORBIDDEN');
          connection.set(isRefused ? 'refused' : 'lost');
          await new Promise((resolve) => setTimeout(resolve, retryMs));
        }
      }
    },
  };
}

export const changes: Changes = createChanges();

/**
 * Calls `listener` with each changed command of one box, or with `missed` if changes may have been missed. Returns a
 * function that ends this.
 */
export function onExecs(boxId: string, listener: (exec: Exec | 'missed') => void): () => void {
  return changes.onEvent((event) => {
    if (event.type === 'reset' || event.type === 'ready') listener('missed');
    else if ((event.type === 'exec.started' || event.type === 'exec.finished') && event.exec.box_id === boxId)
      listener(event.exec);
  });
}
