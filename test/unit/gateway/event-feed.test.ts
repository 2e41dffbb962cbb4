// Tests the feed of output events against doubles of the writer and the database, in all orders of answers. Each reader
// gets each event exactly once and in order.
import { describe, expect, it } from 'vitest';
import type { Exec } from '../../../src/shared/api.ts';
import type { Event } from '../../../src/shared/contracts/writer.ts';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { limits } from '../../../src/shared/limits.ts';
import { createEventFeed, type EventFeed } from '../../../src/gateway/live/event-feed.ts';
import { createRandom } from '../../support/runs/random.ts';

const exec = { id: 'exec_a', box_id: 'box_a' };
const never = new AbortController().signal;

function log(seq: number, bytes = 8): Event {
  return { seq, type: 'log', stream: 'stdout', data: Buffer.alloc(bytes, String(seq)) };
}

function exit(seq: number): Event {
  return { seq, type: 'exit', stream: null, data: Buffer.from('{"exit_code":0}') };
}

interface Double {
  readonly feed: EventFeed;
  /** Commits events, and publishes them to a follower. */
  commit(events: readonly Event[]): void;
  /** From now on, the feed gets no committed events until it follows again or findFollower is called. */
  loseFollower(): void;
  findFollower(): void;
  remove(): void;
  readonly calls: { follow: number; unfollow: number; pages: number };
  pageEvents: number;
  /** Called before each answer of the database or the writer, so a test can do other things meanwhile. */
  pause: () => Promise<void>;
}

function createDouble(): Double {
  const committed: Event[] = [];
  let followed = false;
  let removed = false;
  const double: Double = {
    feed: createEventFeed({
      async follow() {
        double.calls.follow++;
        await double.pause();
        followed = true;
        await double.pause();
      },
      async unfollow() {
        double.calls.unfollow++;
        followed = false;
      },
      async readPage(_, afterSeq) {
        double.calls.pages++;
        await double.pause();
        const events = removed ? [] : committed.filter(({ seq }) => seq > afterSeq).slice(0, double.pageEvents);
        const more = events.length === double.pageEvents;
        await double.pause();
        return { events, more };
      },
      async readExec() {
        await double.pause();
        const status = committed.at(-1)?.type === 'exit' ? 'succeeded' : 'running';
        return removed ? null : ({ ...exec, status } as Exec);
      },
    }),
    commit(events) {
      committed.push(...events);
      if (followed) double.feed.events(exec.id, events);
    },
    loseFollower() {
      followed = false;
    },
    findFollower() {
      followed = true;
    },
    remove() {
      removed = true;
    },
    calls: { follow: 0, unfollow: 0, pages: 0 },
    pageEvents: 4,
    pause: async () => undefined,
  };
  return double;
}

async function collect(feed: EventFeed, afterSeq = -1, signal = never): Promise<Event[]> {
  const events: Event[] = [];
  for await (const batch of feed.read(exec, afterSeq, signal)) events.push(...batch);
  return events;
}

const seqs = (events: readonly Event[]) => events.map(({ seq }) => seq);
const upTo = (last: number) => Array.from({ length: last + 1 }, (_, index) => index);
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

async function turns(count: number): Promise<void> {
  for (let index = 0; index < count; index++) await turn();
}

it('the feed reads a command that has ended only from the database, in pages', async () => {
  const double = createDouble();
  double.commit([...upTo(9).map((seq) => log(seq)), exit(10)]);
  expect(seqs(await collect(double.feed))).toEqual(upTo(10));
  expect(seqs(await collect(double.feed, 7))).toEqual([8, 9, 10]);
  expect(double.calls).toMatchObject({ follow: 0, unfollow: 0 });
});

it('the feed ends at once for a reader that has seen the exit', async () => {
  const double = createDouble();
  double.commit([log(0), exit(1)]);
  expect(await collect(double.feed, 1)).toEqual([]);
  expect(await collect(double.feed, 99)).toEqual([]);
});

it('the feed continues with live events, and follows once for many readers', async () => {
  const double = createDouble();
  double.commit([log(0), log(1)]);
  const readers = Promise.all([1, 2, 3].map(() => collect(double.feed)));
  await turns(5);
  double.commit([log(2)]);
  await turns(2);
  double.commit([log(3), exit(4)]);
  for (const events of await readers) expect(seqs(events)).toEqual(upTo(4));
  await turns(1);
  expect(double.calls).toMatchObject({ follow: 1, unfollow: 1 });
});

it('the feed drops repeated events', async () => {
  const double = createDouble();
  const reader = collect(double.feed);
  await turns(5);
  double.commit([log(0), log(1)]);
  double.feed.events(exec.id, [log(0), log(1)]);
  double.feed.events(exec.id, [log(1)]);
  await turns(2);
  double.feed.events(exec.id, [log(0), log(1)]);
  double.commit([exit(2)]);
  expect(seqs(await reader)).toEqual(upTo(2));
});

it('the feed reads a gap from the database', async () => {
  const double = createDouble();
  const reader = collect(double.feed);
  await turns(5);
  double.commit([log(0)]);
  double.loseFollower();
  double.commit([log(1), log(2)]);
  double.feed.lagged(exec.id);
  await turns(5);
  double.commit([log(3), exit(4)]);
  expect(seqs(await reader)).toEqual(upTo(4));
});

it('the feed notices a gap that was not reported', async () => {
  const double = createDouble();
  const reader = collect(double.feed);
  await turns(5);
  double.commit([log(0)]);
  double.loseFollower();
  double.commit([log(1), log(2)]);
  double.findFollower();
  double.commit([log(3)]);
  await turns(5);
  double.commit([exit(4)]);
  expect(seqs(await reader)).toEqual(upTo(4));
});

it('the feed follows again over a new connection to the writer', async () => {
  const double = createDouble();
  const reader = collect(double.feed);
  await turns(5);
  double.commit([log(0)]);
  double.loseFollower();
  double.commit([log(1), exit(2)]);
  await turns(3);
  double.feed.reconnected();
  expect(seqs(await reader)).toEqual(upTo(2));
  expect(double.calls.follow).toBe(2);
});

it('the feed holds a limited number of bytes for a slow reader, and loses none of its events', async () => {
  const double = createDouble();
  const bytes = limits.feedBufferBytesMax / 8;
  const slow = double.feed.read(exec, -1, never);
  double.commit([log(0)]);
  expect(seqs((await slow.next()).value ?? [])).toEqual([0]);
  const next = slow.next(); // It follows now, and then reads nothing for a while.
  const quick = collect(double.feed);
  await turns(5);
  for (let seq = 1; seq <= 40; seq++) {
    double.commit([log(seq, bytes)]);
    await turns(1);
  }
  double.commit([exit(41)]);
  expect(seqs(await quick)).toEqual(upTo(41));
  const rest = [...((await next).value ?? [])];
  const pagesBefore = double.calls.pages;
  for await (const batch of slow) {
    expect(batch.reduce((sum, { data }) => sum + data.length, 0)).toBeLessThanOrEqual(limits.feedBufferBytesMax);
    rest.push(...batch);
  }
  expect(seqs(rest)).toEqual(upTo(41).slice(1));
  expect(double.calls.pages).toBeGreaterThan(pagesBefore);
});

it.each([
  { what: 'small', bytes: limits.smallEventBytes, pages: 2 },
  { what: 'large', bytes: limits.smallEventBytes + 1, pages: 1 },
])('the feed holds $pages pages of history with $what events for a slow reader', async ({ bytes, pages }) => {
  const double = createDouble();
  double.commit([...upTo(15).map((seq) => log(seq, bytes)), exit(16)]);
  const slow = double.feed.read(exec, -1, never);
  const first = [...((await slow.next()).value ?? [])];
  await turns(5);
  expect(double.calls.pages).toBe(pages);
  const rest: Event[] = [];
  for await (const batch of slow) rest.push(...batch);
  expect(seqs([...first, ...rest])).toEqual(upTo(16));
});

it('the feed ends for a reader that cancels, and unfollows with the last one', async () => {
  const double = createDouble();
  const leaving = new AbortController();
  const first = collect(double.feed, -1, leaving.signal);
  const second = double.feed.read(exec, -1, never);
  const pending = second.next();
  await turns(5);
  leaving.abort();
  await expect(first).rejects.toMatchObject({ code: 'CANCELED' });
  expect(double.calls.unfollow).toBe(0);
  double.commit([log(0)]);
  expect(seqs((await pending).value ?? [])).toEqual([0]);
  await second.return();
  expect(double.calls.unfollow).toBe(1);
});

it('the feed ends with EXEC_NOT_FOUND when the box is removed and the reader has to read a gap', async () => {
  const double = createDouble();
  const reader = collect(double.feed);
  await turns(5);
  double.loseFollower();
  double.remove();
  double.feed.reconnected();
  await expect(reader).rejects.toMatchObject({ code: 'EXEC_NOT_FOUND' });
});

it('the feed gives its readers the error of a writer that stays away', async () => {
  const feed = createEventFeed({
    follow: () => Promise.reject(new BoxRunError('UNAVAILABLE', 'the writer is not there')),
    unfollow: () => Promise.resolve(),
    readPage: () => Promise.resolve({ events: [], more: false }),
    readExec: () => Promise.resolve(null),
  });
  await expect(collect(feed)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

describe('in a random order of events', () => {
  it.each(Array.from({ length: 300 }, (_, index) => index + 1))(
    'the feed gives every reader every event once (seed %i)',
    async (seed) => {
      const random = createRandom(seed);
      const chance = (part: number) => random.below(100) < part * 100;
      const double = createDouble();
      double.pageEvents = 1 + random.below(5);
      double.pause = async () => {
        if (chance(0.5)) await turns(random.below(4));
      };
      const last = 10 + random.below(40);
      const readers: Promise<{ after: number; events: Event[] }>[] = [];
      const addReader = () => {
        const after = chance(0.3) ? random.below(last) : -1;
        readers.push(
          (async () => {
            const events: Event[] = [];
            for await (const batch of double.feed.read(exec, after, never)) {
              events.push(...batch);
              if (chance(0.3)) await turns(random.below(6));
            }
            return { after, events };
          })(),
        );
      };
      addReader();
      let lost = false;
      for (let seq = 0; seq <= last;) {
        const batch: Event[] = [];
        for (let size = 1 + random.below(5); size > 0 && seq <= last; size--, seq++) {
          batch.push(seq === last ? exit(seq) : log(seq, chance(0.1) ? limits.feedBufferBytesMax / 2 : 8));
        }
        double.commit(batch);
        if (chance(0.2)) double.feed.events(exec.id, batch); // The writer sends again after a lost acknowledgement.
        if (chance(0.2)) addReader();
        if (lost && chance(0.4)) {
          const [recover] = [
            double.feed.reconnected,
            () => {
              double.feed.lagged(exec.id);
            },
          ].slice(chance(0.5) ? 0 : 1);
          recover?.();
          lost = false;
        } else if (!lost && chance(0.15)) {
          double.loseFollower();
          lost = true;
        }
        if (chance(0.7)) await turns(random.below(5));
      }
      if (lost) double.feed.reconnected();
      for (const { after, events } of await Promise.all(readers)) {
        expect(seqs(events)).toEqual(upTo(last).slice(after + 1));
      }
    },
  );
});
