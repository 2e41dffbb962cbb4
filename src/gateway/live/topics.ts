// Live messages of the writer for readers at their own pace: one `follow` for all readers of a topic, a seat with a
// bounded queue for each. A seat that misses something, for whatever reason, is `behind`: its reader asks for the past,
// and goes on.
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';

/** One reader's place in what is live. */
export interface Seat<Item> {
  queue: Item[];
  queuedBytes: number;
  /** In all seats together. */
  readonly queued: { bytes: number };
  /** True when the queue has a hole in it: the past must be asked. */
  behind: boolean;
  wake: () => void;
}

/** What somebody follows. */
export interface Topic<Item> {
  readonly seats: Set<Seat<Item>>;
  /** Resolves when the writer sends whatever comes from then on. */
  following: Promise<unknown>;
}

export interface Topics<Item> {
  /** The topic, and a seat there, which is behind at first. */
  join(key: string): { topic: Topic<Item>; seat: Seat<Item> };
  leave(key: string, seat: Seat<Item>): void;
  /**
   * Something new of `bytes` bytes. A queue that would grow past limits.feedBufferBytesMax is dropped, and so is one
   * that would make all of them longer than limits.feedsBufferBytesMax.
   */
  offer(key: string, item: Item, bytes: number): void;
  /** The writer has stopped sending this one, or (without a key) any. */
  followAgain(key?: string): void;
}

export interface TopicDeps {
  follow(key: string): Promise<unknown>;
  unfollow(key: string): Promise<unknown>;
}

export function createTopics<Item>(deps: TopicDeps): Topics<Item> {
  const topics = new Map<string, Topic<Item>>();
  const queued = { bytes: 0 };

  function follow(key: string): Promise<unknown> {
    const following = deps.follow(key);
    following.catch(() => undefined); // Each reader sees the error where it waits.
    return following;
  }

  return {
    join(key) {
      const seat: Seat<Item> = { queue: [], queuedBytes: 0, queued, behind: true, wake: () => undefined };
      const topic = topics.get(key) ?? { seats: new Set<Seat<Item>>(), following: follow(key) };
      topic.seats.add(seat);
      topics.set(key, topic);
      return { topic, seat };
    },
    leave(key, seat) {
      const topic = topics.get(key);
      empty(seat);
      if (topic?.seats.delete(seat) !== true || topic.seats.size > 0) return;
      topics.delete(key);
      deps.unfollow(key).catch(() => undefined); // A writer that is gone follows nothing either.
    },
    offer(key, item, bytes) {
      for (const seat of topics.get(key)?.seats ?? []) offerTo(seat, item, bytes);
    },
    followAgain(key) {
      for (const [each, topic] of topics) {
        if (key !== undefined && each !== key) continue;
        topic.following = follow(each);
        for (const seat of topic.seats) fallBehind(seat);
      }
    },
  };
}

function offerTo<Item>(seat: Seat<Item>, item: Item, bytes: number): void {
  if (seat.behind) return;
  const isTooMuch =
    seat.queuedBytes + bytes > limits.feedBufferBytesMax || seat.queued.bytes + bytes > limits.feedsBufferBytesMax;
  if (seat.queue.length > 0 && isTooMuch) {
    fallBehind(seat);
    return;
  }
  seat.queue.push(item);
  seat.queuedBytes += bytes;
  seat.queued.bytes += bytes;
  seat.wake();
}

function empty<Item>(seat: Seat<Item>): Item[] {
  const { queue } = seat;
  seat.queue = [];
  seat.queued.bytes -= seat.queuedBytes;
  seat.queuedBytes = 0;
  return queue;
}

function fallBehind(seat: Seat<unknown>): void {
  empty(seat);
  seat.behind = true;
  seat.wake();
}

/** What waits in the seat; nothing when it has fallen behind. Waits for one of both. */
export async function takeLive<Item>(seat: Seat<Item>, signal: AbortSignal): Promise<Item[]> {
  while (seat.queue.length === 0 && !seat.behind) {
    await raceAbort(
      new Promise<void>((resolve) => {
        seat.wake = resolve;
      }),
      signal,
    );
  }
  return seat.behind ? [] : empty(seat);
}

/** @throws CANCELED when `signal` aborts first */
export async function raceAbort<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) throw canceled();
  let onAbort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      reject(canceled());
    };
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function canceled(): BoxRunError {
  return new BoxRunError('CANCELED', 'the stream was closed');
}
