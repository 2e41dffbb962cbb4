// The contract of the writer, the only process that changes the database. Its clients are the supervisor (rows of
// boxes, leases), workers (commands and their output events), gateways (which follow committed events) and the keeper.
// Every request that changes something has the same effect when it arrives twice, so a client can send it again.
import { Type, type Static } from 'typebox';
import { ExecUsage, stateKinds } from '../api.ts';
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
 * The key that a client gave a request, so that it can send the request again. The writer commits it together with the
 * row that the request makes. `bodyHash` shows whether a later request under the key is the same request.
 */
export const KeyClaim = Type.Object({ scope: Type.String(), key: Type.String(), bodyHash: Type.String() });
export type KeyClaim = Static<typeof KeyClaim>;

/** One change of a command. A worker sends its changes in the order in which they happened. */
export const ExecChange = Type.Union([
  Type.Object({ op: Type.Literal('insert'), exec: ExecRow, claim: Type.Optional(KeyClaim) }),
  Type.Object({ op: Type.Literal('event'), execId: Type.String(), event: Event, at: Type.String() }),
  /** Removes the output of a detachable terminal before this event. */
  Type.Object({ op: Type.Literal('trim'), execId: Type.String(), beforeSeq: Type.Integer({ minimum: 0 }) }),
  Type.Object({
    op: Type.Literal('finish'),
    execId: Type.String(),
    status: Type.Union([Type.Literal('succeeded'), Type.Literal('failed'), Type.Literal('canceled')]),
    exitCode: Type.Union([Type.Integer(), Type.Null()]),
    errorMessage: nullableText,
    /** Workers of the version before omit it. */
    usage: Type.Optional(Type.Union([ExecUsage, Type.Null()])),
    at: Type.String(),
  }),
]);
export type ExecChange = Static<typeof ExecChange>;

export const BoxChange = Type.Partial(
  Type.Pick(BoxRow, [
    'name',
    'labels',
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

/** A state event: a committed change of a box or a command. `json` is the text that clients get. */
const StateEvent = Type.Object({
  seq: Type.Integer({ minimum: 1 }),
  kind: Type.Enum([...stateKinds]),
  json: Type.String(),
});
export type StateEvent = Static<typeof StateEvent>;

/** The position after a state event. `run` identifies one life of the writer; `seq` counts within it. */
const StatePosition = Type.Object({ run: Type.String(), seq: Type.Integer({ minimum: 0 }) });
export type StatePosition = Static<typeof StatePosition>;

const StatePage = Type.Object({
  events: Type.Array(StateEvent),
  /** The position after the last event of the page. */
  position: StatePosition,
  more: Type.Boolean(),
  /** True: the writer does not have the events after the requested position any more, and gives none. */
  isGap: Type.Boolean(),
});
export type StatePage = Static<typeof StatePage>;

/** The settings that a running writer can change. */
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
    /** See process/build.ts. Absent from writers of older builds. */
    build: Type.Optional(Type.String()),
    /** The path of its database. Absent from writers of the version before, which also do not know `settings`. */
    dbPath: Type.Optional(Type.String()),
  }),
  requests: {
    /**
     * Fails with NAME_ALREADY_EXISTS if another box has the name. Fails with UNAVAILABLE if another row has the key:
     * the HTTP client then repeats its request, and the supervisor gives it that row.
     */
    insertBox: { params: Type.Object({ box: BoxRow, claim: Type.Optional(KeyClaim) }), result: Done },
    /**
     * Stores the answer of a run, for as long as the key. The rows of its box will be removed, and a repeated request
     * must still get the answer.
     */
    keepAnswer: {
      params: Type.Object({ scope: Type.String(), key: Type.String(), rowId: Type.String(), answer: Type.String() }),
      result: Done,
    },
    updateBox: { params: Type.Object({ boxId: Type.String(), change: BoxChange }), result: Done },
    /** Removes the rows of the box, its commands and their events, in several transactions. */
    removeBox: {
      params: Type.Object({ boxId: Type.String() }),
      result: Done,
      timeoutMs: limits.boxRemoveTimeoutMs,
    },
    /** Commits `generation` for the box. From then on the writer refuses changes of an older generation. */
    openLease: { params: Type.Object({ boxId: Type.String(), generation: Type.Integer() }), result: Done },
    /**
     * Ends `generation`: it can commit nothing more. Its unfinished commands fail, each with an exit event. Those in
     * `keptExecs` go on under the next generation.
     */
    closeLease: {
      params: Type.Object({
        boxId: Type.String(),
        generation: Type.Integer(),
        reason: Type.String(),
        keptExecs: Type.Optional(Type.Array(Type.String())),
      }),
      result: Type.Object({ ended: Type.Array(Type.String()) }),
    },
    /**
     * From workers. CANCELED means that the worker has lost its lease, or that its box is removed. The worker must end,
     * and not try again.
     */
    changeExecs: { params: Type.Object({ changes: Type.Array(ExecChange) }), result: Done },
    /** From then on the client gets `events` notices for the command. The result is the last seq committed before. */
    follow: {
      params: Type.Object({ execId: Type.String() }),
      result: Type.Object({ lastSeq: Type.Integer() }),
      timeoutMs: limits.followTimeoutMs,
    },
    unfollow: { params: Type.Object({ execId: Type.String() }), result: Done },
    metrics: { params: Type.Object({}), result: MetricsSnapshot, timeoutMs: limits.healthTimeoutMs },
    /** `writable` is false after a commit has failed, until one succeeds. */
    health: {
      params: Type.Object({}),
      result: Type.Object({ writable: Type.Boolean() }),
      timeoutMs: limits.healthTimeoutMs,
    },
    /** From then on the client gets `states` notices for every change of a box or a command. */
    watchStates: { params: Type.Object({}), result: Done, timeoutMs: limits.followTimeoutMs },
    unwatchStates: { params: Type.Object({}), result: Done },
    /** One page of the state events after `position`. For null: no events, and the present position. */
    statesAfter: {
      params: Type.Object({ position: Type.Union([StatePosition, Type.Null()]) }),
      result: StatePage,
      timeoutMs: limits.followTimeoutMs,
    },
    /** A keeper that adopts this writer sends the settings of its own `serve`. */
    settings: { params: WriterSettings, result: Done },
    /** The keeper ends. The writer ends as soon as no worker is connected; `leaving` is true if it ends now. */
    retire: { params: Type.Object({}), result: Type.Object({ leaving: Type.Boolean() }) },
  },
  notices: {
    events: Type.Object({ execId: Type.String(), events: Type.Array(Event) }),
    /** The client was too slow, and does not follow this command any more. It must read the rest from the database. */
    lagged: Type.Object({ execId: Type.String() }),
    states: Type.Object({ run: Type.String(), events: Type.Array(StateEvent) }),
    /** The client was too slow for state events. It must send `watchStates` again, and ask for the missing events. */
    statesLagged: Type.Object({}),
  },
} as const satisfies Contract;
export type WriterContract = typeof writerContract;

/** Notice handlers for clients that follow no command and watch no states. */
export const noWriterNotices = {
  events: () => undefined,
  lagged: () => undefined,
  states: () => undefined,
  statesLagged: () => undefined,
};
