// What the routes stand on: made by main.ts, replaced by doubles in tests.
// Types only: what is in it is fixed when the gateway starts.
import type { Config } from '../shared/settings/config.ts';
import type { SupervisorContract } from '../shared/contracts/supervisor.ts';
import type { WriterContract } from '../shared/contracts/writer.ts';
import type { ParamsOf } from '../shared/ipc/contract.ts';
import type { Link } from '../shared/ipc/link.ts';
import type { Logger } from '../shared/observe/log.ts';
import type { AnswerCache } from './reads/answer-cache.ts';
import type { Access } from './http/access.ts';
import type { Budget } from './http/budget.ts';
import type { EventFeed } from './live/event-feed.ts';
import type { Guard } from './http/guards.ts';
import type { Health } from './figures/health.ts';
import type { ListSender } from './reads/list-answer.ts';
import type { GatewayMeters } from './figures/meters.ts';
import type { StateFeed } from './live/state-feed.ts';
import type { Rows } from './reads/reader-pool.ts';
import type { StreamPlaces } from './live/stream-places.ts';
import type { Usage } from './figures/usage.ts';

export interface GatewayParts {
  readonly config: Config;
  readonly log: Logger;
  /** Every command goes there. */
  readonly supervisor: Pick<Link<SupervisorContract>, 'request'>;
  /** Every read goes there. */
  readonly rows: Rows;
  /** ... through this, where clients ask for the same again and again. */
  readonly answers: AnswerCache;
  readonly lists: ListSender;
  /** Bodies of requests, from their head to the end of the answer. */
  readonly bodies: Budget;
  /** Answers that their clients have not taken yet. */
  readonly unread: Budget;
  readonly feed: EventFeed;
  readonly states: StateFeed;
  /** Committed when it resolves. */
  readonly keepAnswer: (answer: ParamsOf<WriterContract, 'keepAnswer'>) => Promise<unknown>;
  readonly health: () => Promise<Health>;
  readonly meters: GatewayMeters;
  readonly usage: Pick<Usage, 'watch' | 'read'>;
  readonly guard: Guard;
  readonly access: Pick<Access, 'newCookie'>;
  /** For event streams and WebSockets. */
  readonly places: StreamPlaces;
  /** For files on their way. */
  readonly transfers: StreamPlaces;
  /** Where browsers find this server, as http://HOST:PORT; null while it listens on no TCP address. */
  readonly address: () => string | null;
  /** Where the build put the dashboard, with a slash at its end. */
  readonly uiDirectory: URL;
  /** Aborts when the gateway goes: streams end then. */
  readonly closing: AbortSignal;
}
