// State events for clients that watch the server. A reader starts at a position or at the present, and gets each event
// once and in order. The events come from the writer's log. If the log does not reach back to the position, or the
// writer has restarted since, the reader gets `reset`: it must list everything again, and then continues from there.
import type { StateEvent, StatePage, StatePosition } from '../../shared/contracts/writer.ts';
import { createTopics, raceAbort, takeLive, type Topics } from './topics.ts';

export interface StateFeedDeps {
  /** Resolves when the writer sends every later change. Waits while the writer is down. */
  watch(): Promise<unknown>;
  unwatch(): Promise<unknown>;
  /** The page of changes after `position`; for null, only the present position. */
  after(position: StatePosition | null): Promise<StatePage>;
}

/** A state event, or `ready` or `reset`. These two have no content. */
export interface StateMessage {
  /** A client that sends this id resumes after this message. */
  readonly id: string;
  readonly kind: StateEvent['kind'] | 'ready' | 'reset';
  readonly json: string;
}

export interface StateFeed {
  /**
   * Gives batches of messages until `signal` aborts. The first message is `ready` if `afterId` is null, and `reset` if
   * the log does not reach back to `afterId`.
   * @throws CANCELED when `signal` aborts, UNAVAILABLE when the writer stays down
   */
  read(afterId: string | null, signal: AbortSignal): AsyncGenerator<readonly StateMessage[], void, void>;
  /** Must be called with each batch that the writer sends. */
  states(writerLife: string, events: readonly StateEvent[]): void;
  /** Must be called when the writer reports that it has skipped events. */
  lagged(): void;
  /** Must be called after a new connection to the writer. The writer sends nothing on it yet. */
  reconnected(): void;
}

interface Batch {
  /** One life of the writer, from its start to its end. Each life numbers its events from 1. */
  readonly writerLife: string;
  readonly events: readonly StateEvent[];
}

/** The key of the only topic. */
const everything = 'states';

export function createStateFeed(deps: StateFeedDeps): StateFeed {
  const topics = createTopics<Batch>({ follow: deps.watch, unfollow: deps.unwatch });
  return {
    read: (afterId, signal) => readStates({ deps, topics }, afterId, signal),
    states(writerLife, events) {
      topics.offer(
        everything,
        { writerLife, events },
        events.reduce((sum, { json }) => sum + json.length, 0),
      );
    },
    lagged() {
      topics.followAgain(everything);
    },
    reconnected() {
      topics.followAgain();
    },
  };
}

interface FeedParts {
  readonly deps: StateFeedDeps;
  readonly topics: Topics<Batch>;
}

async function* readStates(
  { deps, topics }: FeedParts,
  afterId: string | null,
  signal: AbortSignal,
): AsyncGenerator<readonly StateMessage[], void, void> {
  let position = afterId === null ? null : positionOf(afterId);
  const { topic, seat } = topics.join(everything);
  try {
    for (;;) {
      if (seat.behind) {
        await raceAbort(topic.following, signal);
        seat.behind = false;
        for await (const page of pagesAfter(deps, position, signal)) {
          const isFirst = position === null;
          position = page.position;
          if (isFirst || page.isGap) yield [mark(isFirst ? 'ready' : 'reset', position)];
          if (page.events.length > 0) yield page.events.map((event) => messageOf(page.position.run, event));
        }
      }
      for (const { writerLife, events } of await takeLive(seat, signal)) {
        const seq: number = position?.seq ?? 0;
        const fresh = events.filter((event) => event.seq > seq);
        if (writerLife !== position?.run || (fresh[0]?.seq ?? seq + 1) !== seq + 1) {
          seat.behind = true;
          break;
        }
        if (fresh.length === 0) continue;
        position = { run: writerLife, seq: fresh.at(-1)?.seq ?? seq };
        yield fresh.map((event) => messageOf(writerLife, event));
      }
    }
  } finally {
    topics.release(everything, seat);
  }
}

async function* pagesAfter(
  deps: StateFeedDeps,
  from: StatePosition | null,
  signal: AbortSignal,
): AsyncGenerator<StatePage, void, void> {
  for (let position = from; ;) {
    const page = await raceAbort(deps.after(position), signal);
    yield page;
    if (!page.more) return;
    position = page.position;
  }
}

const mark = (kind: 'ready' | 'reset', position: StatePosition): StateMessage => ({
  id: idOf(position),
  kind,
  json: '{}',
});

const messageOf = (writerLife: string, { seq, kind, json }: StateEvent): StateMessage => ({
  id: idOf({ run: writerLife, seq }),
  kind,
  json,
});

const idOf = ({ run: writerLife, seq }: StatePosition) => `${writerLife}.${seq}`;

/**
 * An id that this server did not make gives a position in an unknown life of the writer, so the reader gets `reset`.
 */
function positionOf(id: string): StatePosition {
  const [, writerLife = '', seq = '0'] = /^([\w-]+)\.(\d{1,15})$/.exec(id) ?? [];
  return { run: writerLife, seq: Number(seq) };
}
