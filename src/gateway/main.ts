// The gateway process. It accepts clients over HTTP and passes their requests to the supervisor. It owns connections.
// What else it holds may be lost: kept answers, the usage history, runs under way. So it may die at any moment: clients
// connect again and resume. It stops when its parent, the keeper, is gone.
import { setMaxListeners } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createEventFeed, type EventFeed } from './live/event-feed.ts';
import { createAnswerCache } from './reads/answer-cache.ts';
import { createAccess, loadCookieKey, type Access } from './http/access.ts';
import { createApp } from './app.ts';
import { createBudget } from './http/budget.ts';
import { createClientBounds, type ClientBounds } from './http/client-bounds.ts';
import { createGuard } from './http/guards.ts';
import { askHealth } from './figures/health.ts';
import { createListSender } from './reads/list-answer.ts';
import { listen, urlOf } from './http/listeners.ts';
import { watchGarbage } from './figures/garbage.ts';
import { createGatewayMeters } from './figures/meters.ts';
import type { GatewayParts } from './parts.ts';
import { createPortGuard } from './ports/port-guard.ts';
import { createPortNames } from './ports/port-names.ts';
import { createPortProxy } from './ports/port-proxy.ts';
import { createReaderPool, type Rows } from './reads/reader-pool.ts';
import { createHandlers, operations } from './routes/all-operations.ts';
import { createUpgradeRoute } from './routes/registration.ts';
import { clearSpools } from './http/spools.ts';
import { createStateFeed, type StateFeed } from './live/state-feed.ts';
import { createStreamPlaces } from './live/stream-places.ts';
import { createUsage } from './figures/usage.ts';
import { createUpgrade } from './live/web-socket.ts';
import type { KeepCompiled } from '../shared/process/compiled-code.ts';
import { withDeadline } from '../shared/waiting/clock.ts';
import type { Config } from '../shared/settings/config.ts';
import { statePaths } from '../shared/settings/state-dir.ts';
import { supervisorContract } from '../shared/contracts/supervisor.ts';
import { writerContract, type WriterContract } from '../shared/contracts/writer.ts';
import { errorText } from '../shared/errors.ts';
import { faultPoint } from '../shared/faults/fault.ts';
import { createLink, type Link } from '../shared/ipc/link.ts';
import { limits } from '../shared/limits.ts';
import { createLogger, logWarnings, type Logger } from '../shared/observe/log.ts';
import { createLinkMeter, createMeters, type Meters } from '../shared/observe/metrics.ts';
import { takeOrders, type Lifeline } from '../shared/process/own-process.ts';
import { watchCommits } from '../shared/store/commit-watch.ts';

type WriterLink = Pick<Link<WriterContract>, 'request'>;

interface Feeds {
  readonly feed: EventFeed;
  readonly states: StateFeed;
}

function createFeeds(writer: WriterLink, rows: Rows): Feeds {
  const waitForWriter = { resend: true };
  const feed = createEventFeed({
    follow: (execId) => writer.request('follow', { execId }, waitForWriter),
    unfollow: (execId) => writer.request('unfollow', { execId }),
    readPage: rows.events,
    readExec: (exec) => rows.exec(exec.box_id, exec.id),
  });
  const states = createStateFeed({
    watch: () => writer.request('watchStates', {}, waitForWriter),
    unwatch: () => writer.request('unwatchStates', {}),
    after: (position) => writer.request('statesAfter', { position }, waitForWriter),
  });
  return { feed, states };
}

/** Connects to the supervisor and the writer, and passes the notices of the writer to the feeds. */
function connect(config: Config, log: Logger, meters: Meters, rows: Rows) {
  const paths = statePaths(config.stateDir);
  const observeLink = createLinkMeter(meters);
  const supervisor = createLink({
    observe: observeLink('gateway_supervisor'),
    path: paths.supervisorSocket,
    contract: supervisorContract,
    hello: { role: 'gateway' },
    silenceMs: config.silenceMs,
    notices: {},
    onDown: (reason) => {
      log.warn({ reason }, 'the supervisor is away');
    },
  });
  const writer = createLink({
    observe: observeLink('gateway_writer'),
    path: paths.writerSocket,
    contract: writerContract,
    hello: { role: 'gateway' },
    silenceMs: config.silenceMs,
    notices: {
      events: ({ execId, events }) => {
        feed.events(execId, events);
      },
      lagged: ({ execId }) => {
        feed.lagged(execId);
      },
      states: ({ run: writerLife, events }) => {
        states.states(writerLife, events);
      },
      statesLagged: () => {
        states.lagged();
      },
    },
    onUp: () => {
      feed.reconnected();
      states.reconnected();
    },
    onDown: (reason) => {
      log.warn({ reason }, 'the writer is away');
    },
  });
  const { feed, states }: Feeds = createFeeds(writer, rows);
  return { supervisor, writer, feed, states };
}

interface EntrancesDeps {
  readonly access: Access;
  readonly isLocal: (socket: object) => boolean;
  readonly app: Awaited<ReturnType<typeof createApp>>;
  readonly handlers: ReturnType<typeof createHandlers>;
  readonly bounds: ClientBounds;
}

/** What takes each request: the proxy, if its host is the name of a port of a box, and otherwise the API. */
function createEntrances(parts: GatewayParts, { access, isLocal, app, handlers, bounds }: EntrancesDeps) {
  const names = parts.portNames;
  const proxy = createPortProxy({ parts, names, guard: createPortGuard({ access, isLocal }), access });
  const handle = bounds.bounded((request: IncomingMessage, response: ServerResponse) => {
    if (proxy.takes(request)) proxy.handle(request, response);
    else app.routing(request, response);
  });
  const upgradeOfApi = createUpgrade({
    guard: parts.guard,
    places: parts.places,
    route: createUpgradeRoute(operations, handlers),
    handle,
    closing: parts.closing,
  });
  const upgrade: typeof upgradeOfApi = (request, socket, head) => {
    (proxy.takes(request) ? proxy.upgrade : upgradeOfApi)(request, socket, head);
  };
  return { handle, upgrade };
}

async function serve(lifeline: Lifeline, keepCompiled: KeepCompiled): Promise<void> {
  const { config } = lifeline.orders;
  process.title = `boxrun gateway ${config.stateDir}`;
  const log = createLogger('gateway', config);
  logWarnings(log);
  const paths = statePaths(config.stateDir);
  const closing = new AbortController();
  setMaxListeners(0, closing.signal); // Each open stream has a listener, so Node must not warn about their number.

  // Reads of the database, and the other processes.
  watchGarbage();
  const rows = createReaderPool(new URL('./gateway-reader.js', import.meta.url), config.dbPath);
  const meters = createMeters('gateway');
  const { supervisor, writer, feed, states } = connect(config, log, meters, rows);

  // Access, and what the routes share.
  const token = await withDeadline(lifeline.secret, limits.helloTimeoutMs, 'the token from the keeper');
  const access = createAccess({ token, cookieKey: loadCookieKey(paths.cookieKey) });
  const localConnections = new WeakSet<object>();
  const isLocal = (socket: object) => localConnections.has(socket);
  let tcp: { readonly host: string; readonly port: number } | null = null;
  const portNames = createPortNames(config, () => tcp);
  const usage = createUsage({ supervisor, maxBoxes: config.caps.boxes, stateDir: config.stateDir });
  const health = () => askHealth({ supervisor, writer });
  const answers = createAnswerCache(watchCommits(config.dbPath));
  const unread = createBudget(limits.unreadBytesMax, 'answers that it does not read');
  const parts: GatewayParts = {
    config,
    log,
    supervisor,
    rows,
    feed,
    states,
    access,
    usage,
    answers,
    lists: createListSender({ answers, unread, closing: closing.signal }),
    bodies: createBudget(limits.bodiesHeldBytesMax, 'bodies of requests'),
    unread,
    guard: createGuard({ config, access, isLocal }),
    places: createStreamPlaces(config.caps.streams),
    transfers: createStreamPlaces(limits.transfersPerClientMax, {
      what: 'uploads and downloads under way',
      hint: 'wait until some are done',
    }),
    address: () => (tcp === null ? null : urlOf(tcp)),
    portNames,
    keepAnswer: (answer) => writer.request('keepAnswer', answer, { resend: true }),
    health,
    meters: createGatewayMeters({ meters, supervisor, health, readersWaiting: rows.waiting }),
    uiDirectory: new URL('./ui/', import.meta.url),
    closing: closing.signal,
  };

  // The application, with the bounds for each client before it.
  const handlers = createHandlers(parts);
  const app = await createApp(parts, handlers);
  const bounds = createClientBounds({
    connectionsMax: config.caps.streams + limits.connectionsBesideStreamsMax,
    requestsMax: config.caps.streams + limits.requestsBesideStreamsMax,
  });
  const { handle, upgrade } = createEntrances(parts, { access, isLocal, app, handlers, bounds });

  // The listeners. They open late, so that the first requests find the other processes.
  await Promise.allSettled([supervisor.ready(limits.peersWaitMs), writer.ready(limits.peersWaitMs)]);
  const listeners = await listen({
    tcp: config.tcp,
    socketPath: config.socketPath,
    handle,
    upgrade,
    onConnection: bounds.onConnection,
    onLocalConnection: (socket) => localConnections.add(socket),
  });
  tcp = listeners.tcp;

  // What goes on beside the requests.
  usage.start(closing.signal);
  if (config.gateways > 1) parts.meters.report(closing.signal);
  // The gateway is ready without this, so it does not wait for it.
  clearSpools(config.stateDir).catch((error: unknown) => {
    log.warn({ err: error }, 'temporary files of earlier uploads cannot be removed');
  });
  faultPoint('gateway.boot.listening');
  lifeline.ready({ tcp: listeners.tcp, socket: config.socketPath });

  // The end: no new connections, then the open streams, then the other processes.
  const stop = async (why: string): Promise<void> => {
    if (closing.signal.aborted) return;
    log.info({ why }, 'stopping');
    const stopped = listeners.stop();
    closing.abort();
    await stopped;
    await listeners.drain(limits.gatewayCloseMs);
    supervisor.close();
    writer.close();
    keepCompiled();
    process.exit(0);
  };
  process.on('SIGTERM', () => void stop('SIGTERM'));
  process.on('SIGINT', () => undefined); // Ctrl-C reaches the whole process group; the keeper decides.
  void lifeline.parentGone.then(() => stop('the keeper is gone'));
}

/** @param keepCompiled keeps the compiled code of this process for the next gateway */
export async function main(keepCompiled: KeepCompiled): Promise<void> {
  const lifeline = takeOrders();
  try {
    await serve(lifeline, keepCompiled);
  } catch (error) {
    process.stderr.write(
      `${JSON.stringify({ level: 60, role: 'gateway', msg: 'cannot start', err: errorText(error) })}\n`,
    );
    await lifeline.refuse(error);
    process.exit(1);
  }
}
