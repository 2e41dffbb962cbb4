// Reads from the database through a few threads; what waits for them is bounded.
// Routes and the event feed read through this; nothing in the gateway holds a connection itself.
import { Piscina } from 'piscina';
import type { Box, Exec } from '../shared/api.ts';
import { BoxRunError } from '../shared/errors.ts';
import { limits } from '../shared/limits.ts';
import type { BoxFilter, Page, PageRequest } from '../shared/store/lists.ts';
import type { EventPage, KnownKey } from '../shared/store/reader.ts';
import type { ReaderCall, ReaderThreadData } from './reader-thread.ts';

export interface Rows {
  /** By id or name. */
  box(key: string): Promise<Box | null>;
  boxes(filter: BoxFilter, page: PageRequest): Promise<Page<Box>>;
  exec(box: string, execId: string): Promise<Exec | null>;
  execs(boxId: string, page: PageRequest): Promise<Page<Exec>>;
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
    boxes: (filter, page) => read({ read: 'boxes', filter, page }),
    exec: (box, execId) => read({ read: 'exec', box, execId }),
    execs: (boxId, page) => read({ read: 'execs', boxId, page }),
    knownKey: (scope, key) => read({ read: 'knownKey', scope, key }),
    events: (execId, afterSeq, bytesMax) => read({ read: 'events', execId, afterSeq, bytesMax }),
    waiting: () => pool.queueSize,
    close: () => pool.close({ force: true }),
  };
}
