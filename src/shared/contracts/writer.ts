// What the writer is asked for: the only way into the database. Clients are the supervisor (box rows, leases),
// workers (execs and their events), gateways (following committed events) and the keeper (its end).
// Every changing request does the same when it comes twice, so that it can be sent again after a lost connection.
import { Type, type Static } from 'typebox';
import { stateKinds } from '../api.ts';
import { Bytes, Done, type Contract } from '../ipc/contract.ts';
import { limits } from '../limits.ts';
import { LogSettings } from './settings.ts';
import { MetricsSnapshot } from '../observe/metrics-snapshot.ts';
import { BoxRow, ExecRow } from '../store/rows.ts';

const nullableText = Type.Union([Type.String(), Type.Null()]);

const Event = Type.Object({
  seq: Type.Integer({ minimum: 0 }),
  type: Type.Union([Type.Literal('log'), Type.Literal('exit')]),
  stream: Type.Union([Type.Literal('stdout'), Type.Literal('stderr'), Type.Null()]),
  data: Bytes,
});
export type Event = Static<typeof Event>;

/**
 * A key with which a client has marked a request, so that it can be sent again: committed together with the row that
 * the request makes, and from then on standing for it. `bodyHash` tells whether what comes under the key is the same
 * request.
 */
export const KeyClaim = Type.Object({ scope: Type.String(), key: Type.String(), bodyHash: Type.String() });
export type KeyClaim = Static<typeof KeyClaim>;

/** One change to an exec, in the order in which a worker made them. */
export const ExecChange = Type.Union([
  Type.Object({ op: Type.Literal('insert'), exec: ExecRow, claim: Type.Optional(KeyClaim) }),
  Type.Object({ op: Type.Literal('event'), execId: Type.String(), event: Event, at: Type.String() }),
  Type.Object({
    op: Type.Literal('finish'),
    execId: Type.String(),
    status: Type.Union([Type.Literal('succeeded'), Type.Literal('failed'), Type.Literal('canceled')]),
    exitCode: Type.Union([Type.Integer(), Type.Null()]),
    errorMessage: nullableText,
    at: Type.String(),
  }),
]);
export type ExecChange = Static<typeof ExecChange>;

export const BoxChange = Type.Partial(
  Type.Pick(BoxRow, [
    'name',
    'status',
    'state',
    'boxlite_id',
    'error_code',
    'error_message',
    'started_at',
    'stopped_at',
    'image_source',
    'id_block',
  ]),
);
export type BoxChange = Static<typeof BoxChange>;

/** A committed change of a box or an exec; `json` is what clients are told of it. */
const StateEvent = Type.Object({
  seq: Type.Integer({ minimum: 1 }),
  kind: Type.Enum([...stateKinds]),
  json: Type.String(),
});
export type StateEvent = Static<typeof StateEvent>;

/** Behind one change: its seq counts within one run of the writer. */
const StatePosition = Type.Object({ run: Type.String(), seq: Type.Integer({ minimum: 0 }) });
export type StatePosition = Static<typeof StatePosition>;

const StatePage = Type.Object({
  events: Type.Array(StateEvent),
  /** Behind the last of them. */
  position: StatePosition,
  more: Type.Boolean(),
  /** What came after the position that was asked for is not known any more; nothing is told of it. */
  isGap: Type.Boolean(),
});
export type StatePage = Static<typeof StatePage>;

/** Settings that may change while a writer lives. */
export const WriterSettings = Type.Object({ ...LogSettings.properties, retentionHours: Type.Integer({ minimum: 0 }) });
export type WriterSettings = Static<typeof WriterSettings>;

export const writerContract = {
  name: 'writer',
  version: 1,
  clientHello: Type.Union([
    Type.Object({ role: Type.Union([Type.Literal('keeper'), Type.Literal('supervisor'), Type.Literal('gateway')]) }),
    Type.Object({ role: Type.Literal('worker'), boxId: Type.String(), generation: Type.Integer() }),
  ]),
  serverHello: Type.Object({
    pid: Type.Integer(),
    instanceId: Type.String(),
    /** shared/process/build.ts; absent in writers of builds that did not say it yet. */
    build: Type.Optional(Type.String()),
    /** The database that it writes, where it says so. Writers of the version before do not, and take no `settings`. */
    dbPath: Type.Optional(Type.String()),
  }),
  requests: {
    /** NAME_ALREADY_EXISTS when another box has the name; UNAVAILABLE when another row has the key. */
    insertBox: { params: Type.Object({ box: BoxRow, claim: Type.Optional(KeyClaim) }), result: Done },
    /** Keeps the answer to a request whose row is going to be removed, for as long as its key is known. */
    keepAnswer: {
      params: Type.Object({ scope: Type.String(), key: Type.String(), rowId: Type.String(), answer: Type.String() }),
      result: Done,
    },
    updateBox: { params: Type.Object({ boxId: Type.String(), change: BoxChange }), result: Done },
    /** Removes the box with its execs and events, in slices. */
    removeBox: {
      params: Type.Object({ boxId: Type.String() }),
      result: Done,
      timeoutMs: limits.boxRemoveTimeoutMs,
    },
    /** Commits `generation` for the box: everything that an older one sends is refused from then on. */
    openLease: { params: Type.Object({ boxId: Type.String(), generation: Type.Integer() }), result: Done },
    /** Fences `generation`, and ends each unfinished exec of it as failed, with its exit event at the next seq. */
    closeLease: {
      params: Type.Object({ boxId: Type.String(), generation: Type.Integer(), reason: Type.String() }),
      result: Type.Object({ ended: Type.Array(Type.String()) }),
    },
    /** From workers; CANCELED when the worker's generation is no longer the box's: final, it must go. */
    changeExecs: { params: Type.Object({ changes: Type.Array(ExecChange) }), result: Done },
    /**
     * From then on, `events` notices of what is committed for the exec. Answers with the highest seq committed before.
     */
    follow: {
      params: Type.Object({ execId: Type.String() }),
      result: Type.Object({ lastSeq: Type.Integer() }),
      timeoutMs: limits.followTimeoutMs,
    },
    unfollow: { params: Type.Object({ execId: Type.String() }), result: Done },
    metrics: { params: Type.Object({}), result: MetricsSnapshot, timeoutMs: limits.healthTimeoutMs },
    /** Whether the database takes changes: false after a failed commit, until one goes through again. */
    health: {
      params: Type.Object({}),
      result: Type.Object({ writable: Type.Boolean() }),
      timeoutMs: limits.healthTimeoutMs,
    },
    /** From then on, `states` notices of every change of a box or an exec. */
    watchStates: { params: Type.Object({}), result: Done, timeoutMs: limits.followTimeoutMs },
    unwatchStates: { params: Type.Object({}), result: Done },
    /** The changes after `position`, a page of them; of null, the present position. */
    statesAfter: {
      params: Type.Object({ position: Type.Union([StatePosition, Type.Null()]) }),
      result: StatePage,
      timeoutMs: limits.followTimeoutMs,
    },
    /** From a keeper that adopts this writer: what its own `serve` was told. */
    settings: { params: WriterSettings, result: Done },
    /** The keeper's goodbye: the writer ends as soon as no worker needs it; `leaving` when that is now. */
    retire: { params: Type.Object({}), result: Type.Object({ leaving: Type.Boolean() }) },
  },
  notices: {
    events: Type.Object({ execId: Type.String(), events: Type.Array(Event) }),
    /** The follower fell too far behind: what came after is to be read from the database. */
    lagged: Type.Object({ execId: Type.String() }),
    states: Type.Object({ run: Type.String(), events: Type.Array(StateEvent) }),
    /** The watcher fell too far behind: it must watch again, and ask for what it has missed. */
    statesLagged: Type.Object({}),
  },
} as const satisfies Contract;
export type WriterContract = typeof writerContract;

/** For clients that follow and watch nothing. */
export const noWriterNotices = {
  events: () => undefined,
  lagged: () => undefined,
  states: () => undefined,
  statesLagged: () => undefined,
};
