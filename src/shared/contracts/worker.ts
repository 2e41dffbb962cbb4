// What a worker is asked for, by the supervisor that holds its box's lease. The worker listens; supervisors come and
// go. Served by worker/control.ts, called by supervisor/workers/box-worker.ts; generations tell workers of one box
// apart.
import { Type, type Static } from 'typebox';
import { AttachInput, Exec, Ulimit, Volume } from '../api.ts';
import { ImageSource } from '../images/source.ts';
import { Done, type Contract } from '../ipc/contract.ts';
import { limits } from '../limits.ts';
import { StageTimes } from '../observe/stage-times.ts';
import { WorkerSettings } from './settings.ts';
import { KeyClaim } from './writer.ts';

const Env = Type.Record(Type.String(), Type.String());
const nullableText = Type.Union([Type.String(), Type.Null()]);

export const Assignment = Type.Object({
  boxId: Type.String(),
  generation: Type.Integer(),
  instanceId: Type.String(),
  driver: Type.Union([Type.Literal('boxlite'), Type.Literal('container')]),
  image: ImageSource,
  cpu: Type.Integer(),
  memoryMb: Type.Integer(),
  diskSizeGb: Type.Integer(),
  network: Type.Boolean(),
  workdir: Type.String(),
  env: Env,
  volumes: Type.Array(Volume),
  ulimits: Type.Optional(Type.Array(Ulimit)),
  idBlock: Type.Optional(Type.Union([Type.Integer(), Type.Null()])),
  /** The engine's name for the box once it has been made. */
  engineId: Type.Optional(nullableText),
});
export type Assignment = Static<typeof Assignment>;

const dimension = Type.Integer({ minimum: 1, maximum: 65_535 });
const Tty = Type.Object({ cols: dimension, rows: dimension, term: Type.String() });

export const ExecOrder = Type.Object({
  cmd: Type.Array(Type.String()),
  env: Type.Union([Env, Type.Null()]),
  workdir: nullableText,
  timeoutMs: Type.Union([Type.Integer(), Type.Null()]),
  user: Type.Optional(nullableText),
  tty: Type.Optional(Type.Union([Tty, Type.Null()])),
  /** Input comes by a stream of its own. */
  stdin: Type.Optional(Type.Boolean()),
  /** Of the client, for the logs. */
  requestId: Type.Optional(Type.String()),
  /** Committed with the row; a second order with the same key gets the same exec. */
  claim: Type.Optional(KeyClaim),
});
export type ExecOrder = Static<typeof ExecOrder>;

/** What a stream of bytes to a worker is for. */
export const StreamOperation = Type.Union([
  Type.Object({ kind: Type.Literal('upload'), path: Type.String() }),
  Type.Object({ kind: Type.Literal('download'), path: Type.String() }),
  /** A shell in a terminal; `shell` null: /bin/bash, or /bin/sh where there is none. */
  Type.Object({ kind: Type.Literal('attach'), shell: nullableText, tty: Tty }),
  /** Input of a running command; its output is in its events. */
  Type.Object({ kind: Type.Literal('input'), execId: Type.String() }),
]);
export type StreamOperation = Static<typeof StreamOperation>;

/** Where a stream is opened, once, within limits.streamTokenMs. */
export const StreamGrant = Type.Object({ socketPath: Type.String(), token: Type.String() });
export type StreamGrant = Static<typeof StreamGrant>;

/** Words of control on an open stream, to the worker. */
export const StreamControl = AttachInput;
export type StreamControl = Static<typeof StreamControl>;

/** ... and from it: a download begins, an upload stands at its destination, a terminal's shell has ended. */
export const StreamReport = Type.Union([
  Type.Object({ type: Type.Literal('size'), bytes: Type.Union([Type.Integer(), Type.Null()]) }),
  Type.Object({ type: Type.Literal('done') }),
  Type.Object({ type: Type.Literal('exit'), code: Type.Union([Type.Integer(), Type.Null()]) }),
]);
export type StreamReport = Static<typeof StreamReport>;

/** What a worker makes before it has a box, and has not used yet. */
export function aheadDirOf(workersDir: string, workerId: string): string {
  return `${workersDir}/${workerId}.ahead`;
}

/** The socket for streams beside a worker's own. */
export function streamSocketPath(workersDir: string, workerId: string): string {
  return `${workersDir}/${workerId}.stream.sock`;
}

/** How long the processes of the box have to end by themselves; the worker's own default when absent. */
const graceMs = Type.Optional(Type.Integer({ minimum: 0 }));

interface Grace {
  readonly graceMs?: number;
}

export const workerContract = {
  name: 'worker',
  version: 1,
  clientHello: Type.Object({ role: Type.Literal('supervisor') }),
  serverHello: Type.Object({
    workerId: Type.String(),
    pid: Type.Integer(),
    /** Null for a spare. */
    boxId: nullableText,
    generation: Type.Integer(),
    /** True while the engine runs under this worker. */
    running: Type.Boolean(),
    /** shared/process/build.ts; absent in workers of builds that did not say it yet. */
    build: Type.Optional(Type.String()),
    /** Requests that workers of the version before do not know; see `takes`. */
    takes: Type.Optional(Type.Array(Type.String())),
    /** Of the settings with which it was started; see settingsDigest. */
    settingsDigest: Type.Optional(Type.String()),
  }),
  requests: {
    /** Makes a spare the worker of one box, for good. */
    assign: { params: Assignment, result: Done },
    prepareImage: { params: Type.Object({}), result: Done, timeoutMs: limits.imagePrepareTimeoutMs },
    create: {
      params: Type.Object({}),
      result: Type.Object({ engineId: Type.String() }),
      timeoutMs: limits.boxStartTimeoutMs,
    },
    start: { params: Type.Object({}), result: Done, timeoutMs: limits.boxStartTimeoutMs },
    /**
     * Takes over from a dead predecessor, and names the commands of which it finds processes. `endStrays` must follow.
     */
    adopt: {
      params: Type.Object({}),
      result: Type.Object({ running: Type.Boolean(), execIds: Type.Array(Type.String()) }),
      timeoutMs: limits.boxStartTimeoutMs,
    },
    /**
     * Kills the commands that a predecessor left, except those in `finishedExecs`: their background children live on.
     */
    endStrays: {
      params: Type.Object({ finishedExecs: Type.Array(Type.String()) }),
      result: Done,
      timeoutMs: limits.boxStartTimeoutMs,
    },
    /** Both in one, as supervisors of the version before ask for it. */
    reattach: {
      params: Type.Object({ finishedExecs: Type.Array(Type.String()) }),
      result: Type.Object({ running: Type.Boolean() }),
      timeoutMs: limits.boxStartTimeoutMs,
    },
    /**
     * Starts a command; answers when its row is committed and it has started, and holds a little for a short one to
     * finish.
     */
    exec: {
      params: ExecOrder,
      result: Type.Object({ ...Exec.properties, timings: Type.Optional(StageTimes) }),
      timeoutMs: limits.execStartTimeoutMs + limits.requestTimeoutMs,
    },
    cancel: {
      params: Type.Object({ execId: Type.String() }),
      result: Exec,
      timeoutMs: limits.killTimeoutMs + limits.requestTimeoutMs,
    },
    /** To the leader of a command only. */
    signal: { params: Type.Object({ execId: Type.String(), signal: Type.Integer() }), result: Exec },
    /**
     * A one-time token for a stream, known here before it is handed out; it dies with this worker and so with the
     * lease.
     */
    grant: { params: Type.Object({ operation: StreamOperation }), result: StreamGrant },
    /** Ends every command, then the engine; the disk stays. */
    stop: {
      params: Type.Object({ graceMs }),
      result: Done,
      timeoutMs: (asked: Grace) => limits.boxStopTimeoutMs + (asked.graceMs ?? 0),
    },
    remove: {
      params: Type.Object({ graceMs }),
      result: Done,
      timeoutMs: (asked: Grace) => limits.boxRemoveTimeoutMs + (asked.graceMs ?? 0),
    },
    /** What this worker and its engine use; `engine` null where none runs. */
    figures: {
      params: Type.Object({}),
      result: Type.Object({
        boxId: nullableText,
        execsRunning: Type.Integer(),
        unacknowledgedBytes: Type.Integer(),
        /** Times that reading output had to wait for the writer. */
        outputPauses: Type.Integer(),
        residentBytes: Type.Integer(),
        engine: Type.Union([Type.Object({ cpuSeconds: Type.Number(), memoryBytes: Type.Number() }), Type.Null()]),
      }),
      timeoutMs: limits.healthTimeoutMs,
    },
    /** From a supervisor that adopts this worker: what its own `serve` was told. */
    settings: { params: WorkerSettings, result: Done, timeoutMs: limits.helloTimeoutMs },
    /** Sends what is not acknowledged and exits; a running engine stays. */
    leave: { params: Type.Object({}), result: Done, timeoutMs: limits.workerExitMs },
  },
  notices: {
    /** The engine ended by itself; its commands have been ended as failed. */
    engineExited: Type.Object({ reason: Type.String() }),
    /**
     * A command resists its kill past limits.killTimeoutMs: nothing may go on in this box. Said again to every
     * supervisor that connects.
     */
    unkillable: Type.Object({ reason: Type.String() }),
  },
} as const satisfies Contract;
export type WorkerContract = typeof workerContract;

const newRequests = ['adopt', 'endStrays', 'settings'] as const satisfies readonly (keyof WorkerContract['requests'])[];
/**
 * For the hello of a worker: requests that one of the version before does not know, and that would end its connection.
 */
export const requestsTaken: readonly string[] = newRequests;

/** Whether a worker with this hello knows the request. */
export function takes(hello: { readonly takes?: readonly string[] }, request: (typeof newRequests)[number]): boolean {
  return hello.takes?.includes(request) ?? false;
}

/** Beside a worker's socket: who it is, for a supervisor that did not start it. A pid alone may have been reused. */
export const WorkerStateFile = Type.Object({
  workerId: Type.String(),
  pid: Type.Integer(),
  startTicks: Type.Integer(),
  boxId: nullableText,
  generation: Type.Integer(),
});
export type WorkerStateFile = Static<typeof WorkerStateFile>;
