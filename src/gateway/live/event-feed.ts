// The events of an exec for everyone who wants them: the past from the database, then live ones from the writer, each
// exactly once and in order, however the two race. Used by the event stream and by /v1/run.
// A reader goes by seq alone: whatever does not follow on the last event that it has seen is read from the database.
import type { Exec } from '../../shared/api.ts';
import type { Event } from '../../shared/contracts/writer.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { bytesOf, hasSmallEvents, type EventPage } from '../../shared/store/reader.ts';
import { createTopics, raceAbort, takeLive, type Seat, type TopicDeps, type Topics } from './topics.ts';

/** `follow` is by the id of the exec, and waits while the writer is down. */
export interface FeedDeps extends TopicDeps {
  /** A page ends with the first event past `bytesMax`. */
  readPage(execId: string, afterSeq: number, bytesMax: number): Promise<EventPage>;
  readExec(exec: ExecRef): Promise<Exec | null>;
}

export type ExecRef = Pick<Exec, 'id' | 'box_id'>;

export interface EventFeed {
  /**
   * Events after `afterSeq`, in batches, ending with the exit event (at once, without any, when that is not after
   * `afterSeq`). Memory for one reader is bounded: when it is slow, it gets what it has missed from the database.
   * @throws EXEC_NOT_FOUND when the exec is removed meanwhile, CANCELED when `signal` aborts
   */
  read(exec: ExecRef, afterSeq: number, signal: AbortSignal): AsyncGenerator<readonly Event[], void, void>;
  /** Events after `afterSeq` as far as there are any by now. @throws CANCELED when `signal` aborts */
  past(exec: ExecRef, afterSeq: number, signal: AbortSignal): AsyncGenerator<readonly Event[], void, void>;
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

interface FeedParts {
  readonly deps: FeedDeps;
  readonly topics: Topics<readonly Event[]>;
  readonly pages: PageShare;
}

/** Each reader of history holds a page, for as long as its client takes: all pages together are bounded. */
interface PageShare {
  readers: number;
}

function pageBytes({ readers }: PageShare): number {
  return Math.max(limits.replayPageBytesLeast, Math.min(limits.replayPageBytes, limits.replayBytesMax / readers));
}

export function createEventFeed(deps: FeedDeps): EventFeed {
  const topics = createTopics<readonly Event[]>(deps);
  const pages: PageShare = { readers: 0 };
  const parts: FeedParts = { deps, topics, pages };
  return {
    read: (exec, afterSeq, signal) => readEvents(parts, { exec, afterSeq, signal }),
    past: (exec, afterSeq, signal) => history(parts, { exec, afterSeq, signal }),
    ended: (exec, signal) => waitForExit(parts, exec, signal),
    events(execId, events) {
      topics.offer(execId, events, bytesOf(events));
    },
    lagged(execId) {
      topics.followAgain(execId);
    },
    reconnected() {
      topics.followAgain();
    },
  };
}

interface Reading {
  readonly exec: ExecRef;
  readonly afterSeq: number;
  readonly signal: AbortSignal;
}

async function* readEvents(
  parts: FeedParts,
  { exec, afterSeq, signal }: Reading,
): AsyncGenerator<readonly Event[], void, void> {
  const { deps, topics } = parts;
  const execId = exec.id;
  let lastSeq = afterSeq;
  const advance = (events: readonly Event[]): boolean => {
    lastSeq = events.at(-1)?.seq ?? lastSeq;
    return events.at(-1)?.type === 'exit';
  };
  // First without following: most streams are of commands that have ended, and need no writer.
  for await (const events of history(parts, { exec, afterSeq, signal })) {
    yield events;
    if (advance(events)) return;
  }
  const { topic, seat } = topics.join(execId);
  try {
    for (;;) {
      if (seat.behind) {
        await raceAbort(topic.following, signal);
        seat.behind = false;
        const row = await deps.readExec(exec);
        for await (const events of history(parts, { exec, afterSeq: lastSeq, signal })) {
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
    topics.leave(execId, seat);
  }
}

/** The row is asked only when live events may have been missed. */
async function waitForExit({ deps, topics }: FeedParts, exec: ExecRef, signal: AbortSignal): Promise<void> {
  const { topic, seat } = topics.join(exec.id);
  try {
    for (;;) {
      if (seat.behind) {
        await raceAbort(topic.following, signal);
        seat.behind = false;
        if ((await deps.readExec(exec))?.status !== 'running') return;
      }
      const batches = await takeLive(seat, signal);
      if (batches.some((events) => events.at(-1)?.type === 'exit')) return;
    }
  } finally {
    topics.leave(exec.id, seat);
  }
}

/**
 * What the database has after `afterSeq`, page by page. The next one is read when the one before has been sent, so that
 * memory for one page is enough; only behind a page of small events it is read meanwhile.
 */
async function* history(
  { deps, pages }: FeedParts,
  { exec, afterSeq, signal }: Reading,
): AsyncGenerator<readonly Event[], void, void> {
  pages.readers++;
  try {
    const readPage = (after: number) => deps.readPage(exec.id, after, pageBytes(pages));
    let coming: Promise<EventPage> | null = readPage(afterSeq);
    for (let after = afterSeq; ;) {
      const page: EventPage = await raceAbort(coming ?? readPage(after), signal);
      after = page.events.at(-1)?.seq ?? after;
      coming = page.more && hasSmallEvents(page) ? readPage(after) : null;
      coming?.catch(() => undefined); // Whoever takes it sees it; the reader may leave before.
      if (page.events.length > 0) yield page.events;
      if (!page.more) return;
    }
  } finally {
    pages.readers--;
  }
}

/** The next live events after `lastSeq`; none when the seat has fallen behind. */
async function nextLive(seat: Seat<readonly Event[]>, lastSeq: number, signal: AbortSignal): Promise<readonly Event[]> {
  const batches = await takeLive(seat, signal);
  const waiting = batches.length === 1 ? (batches[0] as readonly Event[]) : batches.flat();
  // What is resent after a lost acknowledgement comes twice.
  const fresh = (waiting[0]?.seq ?? 0) > lastSeq ? waiting : waiting.filter((event) => event.seq > lastSeq);
  if (isUnbroken(fresh, lastSeq)) return fresh;
  seat.behind = true;
  return [];
}

function isUnbroken(events: readonly Event[], lastSeq: number): boolean {
  return events.every((event, index) => event.seq === lastSeq + 1 + index);
}
