// Reads from the database through a few threads; what waits for them is bounded.
// Routes and the event feed read through this; nothing in the gateway holds a connection itself.
import { Piscina } from 'piscina';
import type { Box, Exec } from '../../shared/api.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import type { BoxFilter, PageRequest, Position } from '../../shared/store/lists.ts';
import type { EventPage, KnownKey } from '../../shared/store/reader.ts';
import type { ListPage, ReaderCall, ReaderThreadData } from './reader-thread.ts';

export interface Rows {
  /** By id or name. */
  box(key: string): Promise<Box | null>;
  /** The same as JSON. */
  boxJson(key: string): Promise<string | Uint8Array | null>;
  boxes(filter: BoxFilter, page: PageRequest): Promise<ListPage>;
  boxesEnd(filter: BoxFilter, page: PageRequest): Promise<Position | null>;
  exec(box: string, execId: string): Promise<Exec | null>;
  execJson(box: string, execId: string): Promise<string | Uint8Array | null>;
  execs(boxId: string, page: PageRequest): Promise<ListPage>;
  execsEnd(boxId: string, page: PageRequest): Promise<Position | null>;
  knownKey(scope: string, key: string): Promise<KnownKey | null>;
  events(execId: string, afterSeq: number, bytesMax: number): Promise<EventPage>;
}

export interface ReaderPool extends Rows {
  /** Calls that no thread has taken yet. */
  waiting(): number;
  close(): Promise<void>;
}

/** Starts the threads; `threadUrl` is the bundle of reader-thread.ts. */
export function createReaderPool(threadUrl: URL, dbPath: string): ReaderPool {
  const data: ReaderThreadData = { dbPath };
  const pool = new Piscina({
    filename: threadUrl.href,
    workerData: data,
    minThreads: limits.readerThreads,
    maxThreads: limits.readerThreads,
    maxQueue: limits.readerQueueMax,
    idleTimeout: Number.POSITIVE_INFINITY,
    recordTiming: false,
  });
  async function read<T>(call: ReaderCall): Promise<T> {
    if (pool.queueSize >= limits.readerQueueMax) {
      throw new BoxRunError('UNAVAILABLE', 'too many reads are waiting', { hint: 'try again in a second' });
    }
    return (await pool.run(call)) as T;
  }
  return {
    box: (key) => read({ read: 'box', key }),
    boxJson: (key) => read({ read: 'boxJson', key }),
    boxes: (filter, page) => read({ read: 'boxes', filter, page }),
    boxesEnd: (filter, page) => read({ read: 'boxesEnd', filter, page }),
    exec: (box, execId) => read({ read: 'exec', box, execId }),
    execJson: (box, execId) => read({ read: 'execJson', box, execId }),
    execs: (boxId, page) => read({ read: 'execs', boxId, page }),
    execsEnd: (boxId, page) => read({ read: 'execsEnd', boxId, page }),
    knownKey: (scope, key) => read({ read: 'knownKey', scope, key }),
    events: (execId, afterSeq, bytesMax) => read({ read: 'events', execId, afterSeq, bytesMax }),
    waiting: () => pool.queueSize,
    close: () => pool.close({ force: true }),
  };
}
