// Distributes live messages of the writer to readers of different speed. The gateway follows a topic once for all its
// readers. Each reader has a seat with a limited queue. A seat that missed a message is `behind`: its reader must first
// read the past again and can then continue with live messages.
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';

/** The queue of one reader of a topic. */
export interface Seat<Item> {
  queue: Item[];
  queuedBytes: number;
  /** The bytes that wait in all seats together. */
  readonly queued: { bytes: number };
  /** True when messages are missing, so that the reader must read the past. */
  behind: boolean;
  /** Wakes the reader that waits in `takeLive`. */
  wake: () => void;
}

/** One subject that the gateway follows for its readers. */
export interface Topic<Item> {
  readonly seats: Set<Seat<Item>>;
  /** Resolves when the writer sends every later message of this topic. */
  following: Promise<unknown>;
}

export interface Topics<Item> {
  /** Adds a reader. Its seat is behind at first. */
  join(key: string): { topic: Topic<Item>; seat: Seat<Item> };
  /** Releases the seat. After the last seat of the topic, the gateway no longer follows it. */
  release(key: string, seat: Seat<Item>): void;
  /**
   * Adds a new message to each seat of the topic. If its queue would then exceed limits.feedBufferBytesMax, or all
   * queues together limits.feedsBufferBytesMax, the seat loses its queue and is behind. An empty queue takes one
   * message of any size.
   * @param bytes the size of the message
   */
  offer(key: string, item: Item, bytes: number): void;
  /** Follows again after the writer has stopped sending the topic `key`, or all topics if `key` is absent. */
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
    following.catch(() => undefined); // Each reader that waits for `following` gets the error.
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
    release(key, seat) {
      const topic = topics.get(key);
      empty(seat);
      if (topic?.seats.delete(seat) !== true || topic.seats.size > 0) return;
      topics.delete(key);
      deps.unfollow(key).catch(() => undefined); // If the writer is down, it sends nothing anyway.
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

/**
 * Waits until the seat has messages, and takes them. Gives none when the seat is behind.
 * @throws CANCELED when `signal` aborts first
 */
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

/** Waits for `work`. @throws CANCELED when `signal` aborts first */
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
