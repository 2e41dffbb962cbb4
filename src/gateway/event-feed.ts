// The events of an exec for everyone who wants them: the past from the database, then live ones from the writer, each
// exactly once and in order, however the two race. Used by the event stream and by /v1/run.
// A reader goes by seq alone: whatever does not follow on the last event that it has seen is read from the database.
import type { Exec } from '../shared/api.ts';
import type { Event } from '../shared/contracts/writer.ts';
import { BoxRunError } from '../shared/errors.ts';
import { limits } from '../shared/limits.ts';
import type { EventPage } from '../shared/store/reader.ts';

export interface FeedDeps {
  /** Resolves when the writer sends what is committed from then on; waits while the writer is down. */
  follow(execId: string): Promise<unknown>;
  unfollow(execId: string): Promise<unknown>;
  readPage(execId: string, afterSeq: number): Promise<EventPage>;
  readExec(exec: ExecRef): Promise<Exec | null>;
}

export type ExecRef = Pick<Exec, 'id' | 'box_id'>;

export interface EventFeed {
  /**
   * Events after `afterSeq`, in batches, ending with the exit event (at once, without any, when that is not after `afterSeq`). Memory for one reader is bounded: when it is slow,
   * it gets what it has missed from the database.
   * @throws EXEC_NOT_FOUND when the exec is removed meanwhile, CANCELED when `signal` aborts
   */
  read(exec: ExecRef, afterSeq: number, signal: AbortSignal): AsyncGenerator<readonly Event[], void, void>;
  /**
   * Resolves when the exec has ended or is gone; the row then says how. Reads no event from the database.
   * @throws CANCELED when `signal` aborts
   */
  ended(exec: ExecRef, signal: AbortSignal): Promise<void>;
  /** What the writer says: */
  events(execId: string, events: readonly Event[]): void;
  lagged(execId: string): void;
  /** The connection to the writer is a new one, which follows nothing yet. */
  reconnected(): void;
}

/** One reader's place in the live events. */
interface Seat {
  queue: (readonly Event[])[];
  queuedBytes: number;
  /** True when the queue has a hole in it: the database knows better. */
  behind: boolean;
  wake: () => void;
}

/** An exec that somebody follows: one `follow` at the writer for all of its readers. */
interface Topic {
  readonly seats: Set<Seat>;
  following: Promise<unknown>;
}

export function createEventFeed(deps: FeedDeps): EventFeed {
  const topics = new Map<string, Topic>();

  function join(execId: string, seat: Seat): Topic {
    const topic = topics.get(execId) ?? { seats: new Set<Seat>(), following: deps.follow(execId) };
    topic.following.catch(() => undefined); // Each reader sees the error where it waits.
    topic.seats.add(seat);
    topics.set(execId, topic);
    return topic;
  }

  function leave(execId: string, topic: Topic, seat: Seat): void {
    topic.seats.delete(seat);
    if (topic.seats.size > 0 || topics.get(execId) !== topic) return;
    topics.delete(execId);
    deps.unfollow(execId).catch(() => undefined); // A writer that is gone follows nothing either.
  }

  function followAgain(execId: string, topic: Topic): void {
    topic.following = deps.follow(execId);
    topic.following.catch(() => undefined);
    for (const seat of topic.seats) fallBehind(seat);
  }

  return {
    read: (exec, afterSeq, signal) => readEvents({ deps, join, leave }, { exec, afterSeq, signal }),
    ended: (exec, signal) => waitForExit({ deps, join, leave }, exec, signal),
    events(execId, events) {
      const bytes = events.reduce((sum, event) => sum + event.data.length, 0);
      for (const seat of topics.get(execId)?.seats ?? []) offer(seat, events, bytes);
    },
    lagged(execId) {
      const topic = topics.get(execId);
      if (topic !== undefined) followAgain(execId, topic);
    },
    reconnected() {
      for (const [execId, topic] of topics) followAgain(execId, topic);
    },
  };
}

function fallBehind(seat: Seat): void {
  seat.queue = [];
  seat.queuedBytes = 0;
  seat.behind = true;
  seat.wake();
}

function offer(seat: Seat, events: readonly Event[], bytes: number): void {
  if (seat.behind) return;
  if (seat.queue.length > 0 && seat.queuedBytes + bytes > limits.feedBufferBytesMax) {
    fallBehind(seat);
    return;
  }
  seat.queue.push(events);
  seat.queuedBytes += bytes;
  seat.wake();
}

interface Reading {
  readonly exec: ExecRef;
  readonly afterSeq: number;
  readonly signal: AbortSignal;
}

interface FeedParts {
  readonly deps: FeedDeps;
  readonly join: (execId: string, seat: Seat) => Topic;
  readonly leave: (execId: string, topic: Topic, seat: Seat) => void;
}

async function* readEvents(parts: FeedParts, { exec, afterSeq, signal }: Reading): AsyncGenerator<readonly Event[], void, void> {
  const { deps, join, leave } = parts;
  const execId = exec.id;
  let lastSeq = afterSeq;
  const advance = (events: readonly Event[]): boolean => {
    lastSeq = events.at(-1)?.seq ?? lastSeq;
    return events.at(-1)?.type === 'exit';
  };
  // First without following: most streams are of commands that have ended, and need no writer.
  for await (const events of history(deps, execId, () => lastSeq)) {
    yield events;
    if (advance(events)) return;
  }
  const seat: Seat = { queue: [], queuedBytes: 0, behind: true, wake: () => undefined };
  const topic = join(execId, seat);
  try {
    for (;;) {
      if (seat.behind) {
        await raceAbort(topic.following, signal);
        seat.behind = false;
        const row = await deps.readExec(exec);
        for await (const events of history(deps, execId, () => lastSeq)) {
          yield events;
          if (advance(events)) return;
        }
        if (row === null) throw new BoxRunError('EXEC_NOT_FOUND', `exec ${execId} was removed`);
        if (row.status !== 'running') return; // Its exit event, committed with that row, was asked to be left out.
      }
      const events = await nextLive(seat, lastSeq, signal);
      if (events.length === 0) continue;
      yield events;
      if (advance(events)) return;
    }
  } finally {
    leave(execId, topic, seat);
  }
}

/** The row is asked only when live events may have been missed. */
async function waitForExit({ deps, join, leave }: FeedParts, exec: ExecRef, signal: AbortSignal): Promise<void> {
  const seat: Seat = { queue: [], queuedBytes: 0, behind: true, wake: () => undefined };
  const topic = join(exec.id, seat);
  try {
    for (;;) {
      if (seat.behind) {
        await raceAbort(topic.following, signal);
        seat.behind = false;
        if ((await deps.readExec(exec))?.status !== 'running') return;
      }
      if (seat.queue.some((events) => events.at(-1)?.type === 'exit')) return;
      seat.queue = [];
      seat.queuedBytes = 0;
      await somethingNew(seat, signal);
    }
  } finally {
    leave(exec.id, topic, seat);
  }
}

/** What the database has after `lastSeq()`, page by page. */
async function* history(deps: FeedDeps, execId: string, lastSeq: () => number): AsyncGenerator<readonly Event[], void, void> {
  for (;;) {
    const page = await deps.readPage(execId, lastSeq());
    if (page.events.length > 0) yield page.events;
    if (!page.more) return;
  }
}

/** The next live events after `lastSeq`; none when the seat has fallen behind. */
async function nextLive(seat: Seat, lastSeq: number, signal: AbortSignal): Promise<readonly Event[]> {
  await somethingNew(seat, signal);
  if (seat.behind) return [];
  const waiting = seat.queue.length === 1 ? (seat.queue[0] as readonly Event[]) : seat.queue.flat();
  seat.queue = [];
  seat.queuedBytes = 0;
  // What is resent after a lost acknowledgement comes twice.
  const fresh = (waiting[0]?.seq ?? 0) > lastSeq ? waiting : waiting.filter((event) => event.seq > lastSeq);
  if (isUnbroken(fresh, lastSeq)) return fresh;
  seat.behind = true;
  return [];
}

async function somethingNew(seat: Seat, signal: AbortSignal): Promise<void> {
  while (seat.queue.length === 0 && !seat.behind) {
    await raceAbort(new Promise<void>((resolve) => { seat.wake = resolve; }), signal);
  }
}

function isUnbroken(events: readonly Event[], lastSeq: number): boolean {
  return events.every((event, index) => event.seq === lastSeq + 1 + index);
}

async function raceAbort(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) throw canceled();
  let onAbort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => { reject(canceled()); };
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function canceled(): BoxRunError {
  return new BoxRunError('CANCELED', 'the stream was closed');
}
