// The output events of a command for its readers. Past events come from the database, and live events from the writer.
// A reader gets each event exactly once and in order. It checks only the number (`seq`): if a live event does not
// directly follow the last event, the reader reads the missing events from the database.
import type { Exec } from '../../shared/api.ts';
import type { Event } from '../../shared/contracts/writer.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { bytesOf, hasSmallEvents, type EventPage } from '../../shared/store/reader.ts';
import { createTopics, raceAbort, takeLive, type Seat, type TopicDeps, type Topics } from './topics.ts';

/** `follow` and `unfollow` take the id of the exec. `follow` waits while the writer is down. */
export interface FeedDeps extends TopicDeps {
  /** The page ends with the event that exceeds `bytesMax`. */
  readPage(execId: string, afterSeq: number, bytesMax: number): Promise<EventPage>;
  readExec(exec: ExecRef): Promise<Exec | null>;
}

export type ExecRef = Pick<Exec, 'id' | 'box_id'>;

export interface EventFeed {
  /**
   * Gives the events after `afterSeq` in batches. The last event is the exit event. If `afterSeq` is the exit event or
   * later, it gives none. The memory for one reader is limited: a slow reader gets missed events from the database.
   * A batch is valid until the reader asks for the next one.
   * @throws EXEC_NOT_FOUND when the exec is removed during the reading
   * @throws CANCELED when `signal` aborts
   */
  read(exec: ExecRef, afterSeq: number, signal: AbortSignal): AsyncGenerator<readonly Event[], void, void>;
  /** Gives the events after `afterSeq` that are in the database now. @throws CANCELED when `signal` aborts */
  past(exec: ExecRef, afterSeq: number, signal: AbortSignal): AsyncGenerator<readonly Event[], void, void>;
  /**
   * Resolves when the exec has ended or was removed. The row of an ended exec says how it ended. Reads no event from
   * the database.
   * @throws CANCELED when `signal` aborts
   */
  ended(exec: ExecRef, signal: AbortSignal): Promise<void>;
  /** Must be called with each batch that the writer sends. */
  events(execId: string, events: readonly Event[]): void;
  /** Must be called when the writer reports that it has skipped events of this exec. */
  lagged(execId: string): void;
  /** Must be called after a new connection to the writer. The gateway follows nothing on it yet. */
  reconnected(): void;
}

interface FeedParts {
  readonly deps: FeedDeps;
  readonly topics: Topics<readonly Event[]>;
  readonly pages: PageShare;
}

/** Counts the readers of history. Each holds a page until its client has read it, so more readers get shorter pages. */
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
  // Reads the history before it follows the exec. Most streams are for ended commands, which do not need the writer.
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
        // The exit event is committed together with this row. It was not in the history, so the client has it already.
        if (row.status !== 'running') return;
      }
      const events = await nextLive(seat, lastSeq, signal);
      if (events.length === 0) continue;
      yield events;
      if (advance(events)) return;
    }
  } finally {
    topics.release(execId, seat);
  }
}

/** Reads the row only if the seat may have missed live events. */
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
    topics.release(exec.id, seat);
  }
}

/**
 * The events after `afterSeq` from the database, page by page. The next page is read only after the last one was sent,
 * so that one page at a time is in memory. Pages of small events are an exception: the next page is read meanwhile.
 */
async function* history(
  { deps, pages }: FeedParts,
  { exec, afterSeq, signal }: Reading,
): AsyncGenerator<readonly Event[], void, void> {
  pages.readers++;
  try {
    const readPage = (after: number) => deps.readPage(exec.id, after, pageBytes(pages));
    let nextPage: Promise<EventPage> | null = readPage(afterSeq);
    for (let after = afterSeq; ;) {
      const page: EventPage = await raceAbort(nextPage ?? readPage(after), signal);
      after = page.events.at(-1)?.seq ?? after;
      nextPage = page.more && hasSmallEvents(page) ? readPage(after) : null;
      nextPage?.catch(() => undefined); // The next turn of the loop gets the error. The reader may stop before that.
      if (page.events.length > 0) yield page.events;
      page.events.length = 0; // Otherwise it stays in memory until the next page has come, which may take long.
      if (!page.more) return;
    }
  } finally {
    pages.readers--;
  }
}

/** The next live events after `lastSeq`; none when the seat is behind. */
async function nextLive(seat: Seat<readonly Event[]>, lastSeq: number, signal: AbortSignal): Promise<readonly Event[]> {
  const batches = await takeLive(seat, signal);
  const waiting = batches.length === 1 ? (batches[0] as readonly Event[]) : batches.flat();
  // An event can come twice: after a lost acknowledgement it is sent again.
  const fresh = (waiting[0]?.seq ?? 0) > lastSeq ? waiting : waiting.filter((event) => event.seq > lastSeq);
  if (isUnbroken(fresh, lastSeq)) return fresh;
  seat.behind = true;
  return [];
}

function isUnbroken(events: readonly Event[], lastSeq: number): boolean {
  return events.every((event, index) => event.seq === lastSeq + 1 + index);
}
