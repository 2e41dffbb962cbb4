// The code of one reader thread. It has its own read-only connection to the database, so that long lists and pages of
// history do not block the event loop of the gateway. Each call is one short read.
import { workerData } from 'node:worker_threads';
import { move, transferableSymbol, valueSymbol } from 'piscina';
import { limits } from '../../shared/limits.ts';
import type { BoxFilter, Page, PageRequest, Position } from '../../shared/store/lists.ts';
import { bytesOf, hasSmallEvents, openReader, type EventPage, type Reader } from '../../shared/store/reader.ts';

export interface ReaderThreadData {
  readonly dbPath: string;
}

/** Rows of a list as JSON, separated by commas. The reader thread makes the JSON, to save work for the main thread. */
export interface ListPage {
  readonly json: Uint8Array;
  readonly count: number;
  readonly next: Position | null;
}

export type ReaderCall =
  | { readonly read: 'box' | 'boxJson'; readonly key: string }
  | { readonly read: 'boxes' | 'boxesEnd'; readonly filter: BoxFilter; readonly page: PageRequest }
  | { readonly read: 'exec' | 'execJson'; readonly box: string; readonly execId: string }
  | { readonly read: 'execs' | 'execsEnd'; readonly boxId: string; readonly page: PageRequest }
  | { readonly read: 'knownKey'; readonly scope: string; readonly key: string }
  | { readonly read: 'events'; readonly execId: string; readonly afterSeq: number; readonly bytesMax: number }
  | { readonly read: 'scrollbackAfter'; readonly execId: string; readonly bytesMax: number };

const { dbPath } = workerData as ReaderThreadData;
let reader: Reader | undefined;

export default function answer(call: ReaderCall): unknown {
  reader ??= openReader(dbPath);
  switch (call.read) {
    case 'box':
      return reader.box(call.key);
    case 'boxJson':
      return jsonOf(reader.box(call.key));
    case 'boxes':
      return listed(reader.boxes(call.filter, call.page));
    case 'boxesEnd':
      return reader.boxesEnd(call.filter, call.page);
    case 'exec':
      return reader.exec(call.box, call.execId);
    case 'execJson':
      return jsonOf(reader.exec(call.box, call.execId));
    case 'execs':
      return listed(reader.execs(call.boxId, call.page));
    case 'execsEnd':
      return reader.execsEnd(call.boxId, call.page);
    case 'knownKey':
      return reader.knownKey(call.scope, call.key);
    case 'scrollbackAfter':
      return reader.scrollbackAfter(call.execId, call.bytesMax);
    case 'events':
      return movedPage(reader.events(call.execId, call.afterSeq, call.bytesMax));
  }
}

/** Null for no row. A long text is moved as bytes, because as text it would stay in the gateway's heap for a while. */
function jsonOf(row: object | null): unknown {
  const json = row === null ? null : JSON.stringify(row);
  if (json === null || json.length < limits.heldBytesCounted) return json;
  const bytes = encoder.encode(json);
  return move({ [transferableSymbol]: [bytes.buffer], [valueSymbol]: bytes });
}

const encoder = new TextEncoder();

function listed({ rows, next }: Page<unknown>): unknown {
  const json = encoder.encode(rows.map((row) => JSON.stringify(row)).join(','));
  const page: ListPage = { json, count: rows.length, next };
  return move({ [transferableSymbol]: [json.buffer], [valueSymbol]: page });
}

/**
 * Moves the bytes of a page to the main thread. Copies would stay in the memory of this thread for long, because it
 * makes little other garbage and so seldom collects it. Small events share one buffer, because each buffer is moved as
 * a separate object. Large events keep their buffers, because joining them would hold the page twice in memory.
 */
function movedPage(page: EventPage): unknown {
  const sent = hasSmallEvents(page) ? inOneBuffer(page) : page;
  const buffers = [...new Set(sent.events.map(({ data }) => data.buffer))];
  return move({ [transferableSymbol]: buffers, [valueSymbol]: sent });
}

function inOneBuffer({ events, more }: EventPage): EventPage {
  const all = new Uint8Array(bytesOf(events));
  let at = 0;
  return {
    more,
    events: events.map((event) => {
      const data = all.subarray(at, at + event.data.length);
      data.set(event.data);
      at += data.length;
      return { ...event, data };
    }),
  };
}
