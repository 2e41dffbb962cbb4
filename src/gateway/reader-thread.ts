// A thread that reads the database, with a read-only connection of its own, so that long lists and pages of history
// never hold up the gateway's event loop. Run by reader-pool.ts; each call is one short read.
import { workerData } from 'node:worker_threads';
import { move, transferableSymbol, valueSymbol } from 'piscina';
import type { BoxFilter, PageRequest } from '../shared/store/lists.ts';
import { bytesOf, hasSmallEvents, openReader, type EventPage, type Reader } from '../shared/store/reader.ts';

export interface ReaderThreadData {
  readonly dbPath: string;
}

export type ReaderCall =
  | { readonly read: 'box'; readonly key: string }
  | { readonly read: 'boxes'; readonly filter: BoxFilter; readonly page: PageRequest }
  | { readonly read: 'exec'; readonly box: string; readonly execId: string }
  | { readonly read: 'execs'; readonly boxId: string; readonly page: PageRequest }
  | { readonly read: 'knownKey'; readonly scope: string; readonly key: string }
  | { readonly read: 'events'; readonly execId: string; readonly afterSeq: number; readonly bytesMax: number };

const { dbPath } = workerData as ReaderThreadData;
let reader: Reader | undefined;

export default function answer(call: ReaderCall): unknown {
  reader ??= openReader(dbPath);
  switch (call.read) {
    case 'box':
      return reader.box(call.key);
    case 'boxes':
      return reader.boxes(call.filter, call.page);
    case 'exec':
      return reader.exec(call.box, call.execId);
    case 'execs':
      return reader.execs(call.boxId, call.page);
    case 'knownKey':
      return reader.knownKey(call.scope, call.key);
    case 'events':
      return handedOver(reader.events(call.execId, call.afterSeq, call.bytesMax));
  }
}

/**
 * Its bytes go over to the gateway's thread; copies would stay here until this thread, which makes little garbage else,
 * looks for it. Those of small events go in one buffer, since each buffer is an object of its own on its way; a page of
 * large ones would stand there twice.
 */
function handedOver(page: EventPage): unknown {
  const sent = hasSmallEvents(page) ? joined(page) : page;
  const buffers = [...new Set(sent.events.map(({ data }) => data.buffer))];
  return move({ [transferableSymbol]: buffers, [valueSymbol]: sent });
}

function joined({ events, more }: EventPage): EventPage {
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
