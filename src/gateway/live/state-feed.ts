// The changes of boxes and execs for everyone who watches: from a position on, or from now on, each once and in order,
// out of the writer's log. Where that does not reach back far enough, or is of another run of the writer, a reader gets
// `reset`, which tells it to list anew, and goes on from there.
import type { StateEvent, StatePage, StatePosition } from '../../shared/contracts/writer.ts';
import { createTopics, raceAbort, takeLive, type Topics } from './topics.ts';

export interface StateFeedDeps {
  /** Resolves when the writer tells every change from then on; waits while the writer is down. */
  watch(): Promise<unknown>;
  unwatch(): Promise<unknown>;
  after(position: StatePosition | null): Promise<StatePage>;
}

/** `ready` and `reset` have no content of their own. */
export interface StateMessage {
  /** At which a client resumes behind this message. */
  readonly id: string;
  readonly kind: StateEvent['kind'] | 'ready' | 'reset';
  readonly json: string;
}

export interface StateFeed {
  /**
   * Batches of messages without end. The first is `ready` where `afterId` is null, and `reset` where it cannot be
   * served.
   * @throws CANCELED when `signal` aborts, UNAVAILABLE when the writer stays away
   */
  read(afterId: string | null, signal: AbortSignal): AsyncGenerator<readonly StateMessage[], void, void>;
  /** What the writer says: */
  states(run: string, events: readonly StateEvent[]): void;
  lagged(): void;
  /** The connection to the writer is a new one, by which it tells nothing yet. */
  reconnected(): void;
}

interface Batch {
  readonly run: string;
  readonly events: readonly StateEvent[];
}

/** There is one topic only. */
const everything = 'states';

export function createStateFeed(deps: StateFeedDeps): StateFeed {
  const topics = createTopics<Batch>({ follow: deps.watch, unfollow: deps.unwatch });
  return {
    read: (afterId, signal) => readStates({ deps, topics }, afterId, signal),
    states(run, events) {
      topics.offer(
        everything,
        { run, events },
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
      for (const { run, events } of await takeLive(seat, signal)) {
        const seq: number = position?.seq ?? 0;
        const fresh = events.filter((event) => event.seq > seq);
        if (run !== position?.run || (fresh[0]?.seq ?? seq + 1) !== seq + 1) {
          seat.behind = true;
          break;
        }
        if (fresh.length === 0) continue;
        position = { run, seq: fresh.at(-1)?.seq ?? seq };
        yield fresh.map((event) => messageOf(run, event));
      }
    }
  } finally {
    topics.leave(everything, seat);
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

const messageOf = (run: string, { seq, kind, json }: StateEvent): StateMessage => ({
  id: idOf({ run, seq }),
  kind,
  json,
});

const idOf = ({ run, seq }: StatePosition) => `${run}.${seq}`;

/** An id that is none of ours is one of another run. */
function positionOf(id: string): StatePosition {
  const [, run = '', seq = '0'] = /^([\w-]+)\.(\d{1,15})$/.exec(id) ?? [];
  return { run, seq: Number(seq) };
}
