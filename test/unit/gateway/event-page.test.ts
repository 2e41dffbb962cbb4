// A page of events between two threads: what comes out is what went in, to the byte.
import { expect, it } from 'vitest';
import { packPage, unpackPage } from '../../../src/gateway/event-page.ts';
import type { EventRow } from '../../../src/shared/store/rows.ts';

it('gives every event again as it was, empty and binary ones too, and says whether more follow', () => {
  const events: EventRow[] = [
    { seq: 7, type: 'log', stream: 'stdout', data: Uint8Array.of(0, 255, 128) },
    { seq: 8, type: 'log', stream: 'stderr', data: new Uint8Array(0) },
    { seq: 2 ** 40, type: 'exit', stream: null, data: Buffer.from('{"exit_code":0}') },
  ];
  for (const more of [true, false]) {
    const page = unpackPage(packPage({ events, more }));
    expect(page.more).toBe(more);
    expect(page.events.map(({ data, ...rest }) => ({ ...rest, data: [...data] }))).toEqual(events.map(({ data, ...rest }) => ({ ...rest, data: [...data] })));
  }
  expect(unpackPage(packPage({ events: [], more: false }))).toEqual({ events: [], more: false });
});
