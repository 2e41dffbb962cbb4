// Reads from the database through a few threads. The queue in front of the threads is limited.
// Every row that the gateway reads comes through these threads; the main thread reads no rows.
import { Piscina } from 'piscina';
import type { Box, Exec } from '../../shared/api.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import type { BoxFilter, PageRequest, Position } from '../../shared/store/lists.ts';
import type { EventPage, KnownKey } from '../../shared/store/reader.ts';
import type { ListPage, ReaderCall, ReaderThreadData } from './reader-thread.ts';

/** Reads of rows. @throws UNAVAILABLE when too many reads wait */
export interface Rows {
  /** @param key the id or the name of the box */
  box(key: string): Promise<Box | null>;
  /** As `box`, but gives JSON. */
  boxJson(key: string): Promise<string | Uint8Array | null>;
  boxes(filter: BoxFilter, page: PageRequest): Promise<ListPage>;
  /** Where a list of `page.limit` boxes ends. A long list is sent in several pages up to there (list-answer.ts). */
  boxesEnd(filter: BoxFilter, page: PageRequest): Promise<Position | null>;
  exec(box: string, execId: string): Promise<Exec | null>;
  execJson(box: string, execId: string): Promise<string | Uint8Array | null>;
  execs(boxId: string, page: PageRequest): Promise<ListPage>;
  /** As `boxesEnd`, for commands. */
  execsEnd(boxId: string, page: PageRequest): Promise<Position | null>;
  knownKey(scope: string, key: string): Promise<KnownKey | null>;
  events(execId: string, afterSeq: number, bytesMax: number): Promise<EventPage>;
  /** The seq behind which the newest events of a command have at most `bytesMax` bytes; -1 for all events. */
  scrollbackAfter(execId: string, bytesMax: number): Promise<number>;
}

export interface ReaderPool extends Rows {
  /** The number of reads that wait for a thread. */
  waiting(): number;
  close(): Promise<void>;
}

/** Starts the threads. @param threadUrl the bundle of reader-thread.ts */
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
    scrollbackAfter: (execId, bytesMax) => read({ read: 'scrollbackAfter', execId, bytesMax }),
    waiting: () => pool.queueSize,
    close: () => pool.close({ force: true }),
  };
}
