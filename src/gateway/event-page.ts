// A page of events on its way from a reader's thread to the gateway's: the bytes of all of them in one buffer, which changes hands instead of
// being copied. Handing over each event's own buffer costs more than reading it. Packed by reader-thread.ts, unpacked by reader-pool.ts.
import type { EventPage } from '../shared/store/reader.ts';
import type { EventRow } from '../shared/store/rows.ts';

/** For each event three numbers: its seq, its kind, and where its bytes end. */
export interface PackedPage {
  readonly heads: Float64Array;
  readonly bytes: Uint8Array;
  readonly more: boolean;
}

const headLength = 3;
const kinds = [
  { type: 'log', stream: 'stdout' },
  { type: 'log', stream: 'stderr' },
  { type: 'exit', stream: null },
] as const;

export function packPage({ events, more }: EventPage): PackedPage {
  const heads = new Float64Array(events.length * headLength);
  const bytes = new Uint8Array(events.reduce((sum, { data }) => sum + data.length, 0));
  let end = 0;
  events.forEach(({ seq, type, stream, data }, index) => {
    bytes.set(data, end);
    end += data.length;
    const kind = kinds.findIndex((each) => each.type === type && each.stream === stream);
    heads.set([seq, kind, end], index * headLength);
  });
  return { heads, bytes, more };
}

export function unpackPage({ heads, bytes, more }: PackedPage): EventPage {
  const events: EventRow[] = [];
  let from = 0;
  for (let at = 0; at < heads.length; at += headLength) {
    const end = heads[at + 2] as number;
    const { type, stream } = kinds[heads[at + 1] as number] as (typeof kinds)[number];
    events.push({ seq: heads[at] as number, type, stream, data: bytes.subarray(from, end) });
    from = end;
  }
  return { events, more };
}
