// Tests the feed of state events against a double of the writer that can be lost, found again and restarted. Each
// reader gets each change once and in order, and learns when it has missed some for good.
import { expect, it } from 'vitest';
import { createStateFeed, type StateFeed, type StateMessage } from '../../../src/gateway/live/state-feed.ts';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { limits } from '../../../src/shared/limits.ts';
import { createStateLog, type StateLog } from '../../../src/writer/state-log.ts';
import type { Box } from '../../../src/shared/api.ts';
import type { ClientPeer } from '../../../src/shared/ipc/server.ts';
import type { WriterContract } from '../../../src/shared/contracts/writer.ts';

interface Double {
  readonly feed: StateFeed;
  /** Changes `count` boxes. The name of each is its number. */
  change(count: number, filler?: string): void;
  /** Notices from now until findWriter are lost. */
  loseWriter(): void;
  findWriter(): void;
  /** Starts another run of the writer. */
  restartWriter(): void;
  readonly calls: { watch: number; unwatch: number; after: number };
}

function createDouble(): Double {
  let log: StateLog;
  let isAway = false;
  let changes = 0;
  const calls = { watch: 0, unwatch: 0, after: 0 };
  const peer = {
    bufferedBytes: () => 0,
    notify: (name: string, payload: { run: string; events: never[] }) => {
      if (name === 'states' && !isAway) feed.states(payload.run, payload.events);
    },
  } as unknown as ClientPeer<WriterContract>;
  const feed = createStateFeed({
    async watch() {
      calls.watch++;
      await turns(2);
      log.watch(peer);
    },
    async unwatch() {
      calls.unwatch++;
      log.unwatch(peer);
    },
    async after(position) {
      calls.after++;
      await turns(2);
      if (isAway) throw new BoxRunError('UNAVAILABLE', 'the writer is away');
      return log.after(position);
    },
  });
  const startRun = () => {
    log = createStateLog();
  };
  startRun();
  return {
    feed,
    calls,
    change(count, filler = '') {
      for (let index = 0; index < count; index++)
        log.record([{ kind: 'box.changed', box: { name: `${++changes}`, filler } as unknown as Box }]);
    },
    loseWriter() {
      isAway = true;
    },
    findWriter() {
      isAway = false;
      feed.reconnected();
    },
    restartWriter() {
      startRun();
      isAway = false;
      feed.reconnected();
    },
  };
}

async function turns(count: number): Promise<void> {
  for (let index = 0; index < count; index++) await new Promise<void>((resolve) => setImmediate(resolve));
}

interface Reader {
  /** The names of boxes, or the kind of an event without a box, in their order. */
  readonly seen: string[];
  lastId: string;
  readonly stop: () => void;
  readonly ended: Promise<unknown>;
}

/** Reads until it is stopped, and calls `onBatch` after each batch. */
function read(
  feed: StateFeed,
  afterId: string | null = null,
  onBatch: (batch: readonly StateMessage[]) => Promise<void> = async () => undefined,
): Reader {
  const controller = new AbortController();
  const reader = { seen: [] as string[], lastId: '' };
  const follow = async () => {
    for await (const batch of feed.read(afterId, controller.signal)) {
      for (const { kind, json, id } of batch) {
        reader.seen.push((JSON.parse(json) as { box?: Box }).box?.name ?? kind);
        reader.lastId = id;
      }
      await onBatch(batch);
    }
  };
  const ended = follow().catch((error: unknown) => error);
  return Object.assign(reader, {
    ended,
    stop: () => {
      controller.abort();
    },
  });
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => String(from + index));

it('a new reader gets ready and then every change, and one watch serves all readers', async () => {
  const { feed, change, calls } = createDouble();
  change(3);
  const readers = [read(feed), read(feed)];
  await turns(10);
  change(2);
  await turns(3);
  for (const reader of readers) {
    expect(reader.seen).toEqual(['ready', '4', '5']);
    reader.stop();
    expect(await reader.ended).toMatchObject({ code: 'CANCELED' });
  }
  await turns(3);
  expect(calls).toMatchObject({ watch: 1, unwatch: 1 });
});

it('a reader continues after the id of the last message, even if this was ready', async () => {
  const { feed, change } = createDouble();
  const first = read(feed);
  await turns(10);
  const readyId = first.lastId;
  change(1);
  await turns(3);
  first.stop();
  change(4);
  const second = read(feed, first.lastId);
  const third = read(feed, readyId);
  await turns(10);
  change(1);
  await turns(3);
  expect(second.seen).toEqual(numbers(2, 6));
  expect(third.seen).toEqual(numbers(1, 6));
  second.stop();
  third.stop();
});

it.each(['', 'x', 'other.7', '17', '.', 'a.b', '\u2028.1'])(
  'a reader gets reset if it continues after the id %j',
  async (id) => {
    const { feed, change } = createDouble();
    change(2);
    const reader = read(feed, id);
    await turns(10);
    change(1);
    await turns(3);
    expect(reader.seen).toEqual(['reset', '3']);
    reader.stop();
  },
);

it('a reader has no gap after the connection to the writer was lost and found again', async () => {
  const { feed, change, loseWriter, findWriter } = createDouble();
  const reader = read(feed);
  await turns(10);
  change(2);
  await turns(3);
  loseWriter();
  change(3);
  findWriter();
  change(1);
  await turns(10);
  change(1);
  await turns(3);
  expect(reader.seen).toEqual(['ready', ...numbers(1, 7)]);
  reader.stop();
});

it('a reader gets reset when the writer has restarted, and then the changes of the next run', async () => {
  const { feed, change, restartWriter } = createDouble();
  const reader = read(feed);
  await turns(10);
  change(2);
  await turns(3);
  restartWriter();
  await turns(10);
  change(2);
  await turns(3);
  expect(reader.seen).toEqual(['ready', '1', '2', 'reset', '3', '4']);
  reader.stop();
});

it('a reader gets the error of a writer that stays away', async () => {
  const { feed, loseWriter } = createDouble();
  loseWriter();
  expect(await read(feed).ended).toMatchObject({ code: 'UNAVAILABLE' });
});

it('a slow reader gets missed changes from the log, or reset if they are gone, and delays no others', async () => {
  const { feed, change } = createDouble();
  let goOn: () => void = () => undefined;
  const slow = read(feed, null, async (batch) => {
    if (batch[0]?.kind !== 'ready')
      await new Promise<void>((resolve) => {
        goOn = resolve;
      });
  });
  const quick = read(feed);
  await turns(10);
  change(1);
  await turns(3);
  // More bytes than the feed holds for one reader, but not more than the log keeps.
  const filler = 'x'.repeat(limits.feedBufferBytesMax / 4);
  change(6, filler);
  goOn();
  await turns(5);
  for (let times = 0; times < 10; times++) {
    goOn();
    await turns(5);
  }
  expect(slow.seen).toEqual(['ready', ...numbers(1, 7)]);
  change(1);
  await turns(3);
  change((2 * limits.statesKeptCharsMax) / filler.length, filler);
  for (let times = 0; times < 10; times++) {
    goOn();
    await turns(5);
  }
  expect(slow.seen).toEqual(['ready', ...numbers(1, 8), 'reset']);
  expect(quick.seen.at(-1)).not.toBe('8');
  slow.stop();
  goOn();
  quick.stop();
});
