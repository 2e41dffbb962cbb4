// The type of all the parts that the routes and the application need. Tests replace single parts with doubles.
// The parts are created when the gateway starts and are never exchanged afterwards.
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
import type { PortNames } from './ports/port-names.ts';
import type { Rows } from './reads/reader-pool.ts';
import type { StreamPlaces } from './live/stream-places.ts';
import type { Usage } from './figures/usage.ts';

export interface GatewayParts {
  readonly config: Config;
  readonly log: Logger;
  /** Takes every request that changes a box or a command, and gives streams, figures and health. */
  readonly supervisor: Pick<Link<SupervisorContract>, 'request'>;
  /** Reads rows and events from the database. */
  readonly rows: Rows;
  /** Keeps answers of reads that clients repeat often. */
  readonly answers: AnswerCache;
  /** Sends answers that are lists, short or long. */
  readonly lists: ListSender;
  /** The budget for request bodies. A body counts from the head of its request to the end of the answer. */
  readonly bodies: Budget;
  /** The budget for answers that clients have not read yet. */
  readonly unread: Budget;
  readonly feed: EventFeed;
  readonly states: StateFeed;
  /** Stores the answer of a run. Resolves when it is committed. */
  readonly keepAnswer: (answer: ParamsOf<WriterContract, 'keepAnswer'>) => Promise<unknown>;
  readonly health: () => Promise<Health>;
  readonly meters: GatewayMeters;
  readonly usage: Pick<Usage, 'watch' | 'read'>;
  readonly guard: Guard;
  readonly access: Pick<Access, 'newCookie'>;
  /** The limit for event streams and WebSockets. */
  readonly places: StreamPlaces;
  /** The limit for uploads and downloads. */
  readonly transfers: StreamPlaces;
  /** The URL of this server for browsers, as http://HOST:PORT; null if it listens on no TCP address. */
  readonly address: () => string | null;
  /** The host names of ports of boxes. */
  readonly portNames: PortNames;
  /** The directory of the built dashboard, with a slash at its end. */
  readonly uiDirectory: URL;
  /** Aborts when the gateway stops. All streams end then. */
  readonly closing: AbortSignal;
}
