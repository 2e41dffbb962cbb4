// The contract of a worker (server) with the supervisor (client). The worker listens, because it can outlive its
// supervisor. A worker serves one box for its whole life; the generation of its lease tells workers of one box apart.
import { Type, type Static } from 'typebox';
import { AgentUse, AttachInput, BoxProcess, Exec, FileEntry, ListeningPort, Ulimit, Volume } from '../api.ts';
import { ImageSource } from '../images/source.ts';
import { Done, type Contract } from '../ipc/contract.ts';
import { limits } from '../limits.ts';
import { StageTimes } from '../observe/stage-times.ts';
import { FileOperation } from './files.ts';
import { WorkerSettings } from './settings.ts';
import { KeyClaim } from './writer.ts';

const Env = Type.Record(Type.String(), Type.String());
const nullableText = Type.Union([Type.String(), Type.Null()]);
const nullableNumber = Type.Union([Type.Number(), Type.Null()]);

export const Assignment = Type.Object({
  boxId: Type.String(),
  generation: Type.Integer(),
  instanceId: Type.String(),
  driver: Type.Union([Type.Literal('boxlite'), Type.Literal('container')]),
  image: ImageSource,
  cpu: Type.Integer(),
  /** At most `cpu`. Absent or null: `cpu`. */
  cpuLimit: Type.Optional(Type.Union([Type.Number(), Type.Null()])),
  memoryMb: Type.Integer(),
  diskSizeGb: Type.Integer(),
  network: Type.Boolean(),
  workdir: Type.String(),
  env: Env,
  volumes: Type.Array(Volume),
  ulimits: Type.Optional(Type.Array(Ulimit)),
  /** The box's block of host ids (id-ranges.ts). Null or absent: the shared range. */
  idBlock: Type.Optional(Type.Union([Type.Integer(), Type.Null()])),
  /** The engine's name for the box. Absent or null until the box is made. */
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
  /** True: the command has input, which comes by a stream of its own. */
  stdin: Type.Optional(Type.Boolean()),
  /** True: a detachable terminal. Workers of the version before keep all of its output. */
  detachable: Type.Optional(Type.Boolean()),
  /** True: see `internal` of ExecRow. */
  internal: Type.Optional(Type.Boolean()),
  /** The id of the client's request, for the logs. */
  requestId: Type.Optional(Type.String()),
  /** Committed together with the row. A second order with the same key gets the same exec. */
  claim: Type.Optional(KeyClaim),
});
export type ExecOrder = Static<typeof ExecOrder>;

/** A command that a dead worker left, and what is committed of it. */
export const ResumedExec = Type.Object({
  exec: Exec,
  /** The seq of the next output event. */
  nextSeq: Type.Integer({ minimum: 0 }),
  stdoutBytes: Type.Integer({ minimum: 0 }),
  stderrBytes: Type.Integer({ minimum: 0 }),
});
export type ResumedExec = Static<typeof ResumedExec>;

const portNumber = Type.Integer({ minimum: 1, maximum: 65_535 });

/**
 * True: the gateway can carry the bytes over a second connection, which the worker gives to the program in the box. So
 * they do not pass through the worker. See StreamReport.
 */
const direct = Type.Optional(Type.Boolean());

/** The purpose of a stream to a worker. */
export const StreamOperation = Type.Union([
  Type.Object({
    kind: Type.Literal('upload'),
    path: Type.String(),
    /** The permission bits of the file. Absent, also from an older gateway: as the worker finds fit. */
    mode: Type.Optional(Type.Integer()),
    mtimeS: Type.Optional(Type.Integer()),
    direct,
  }),
  Type.Object({ kind: Type.Literal('download'), path: Type.String(), direct }),
  /** A shell in a terminal. `shell` null: /bin/bash, or /bin/sh if there is no /bin/bash. */
  Type.Object({ kind: Type.Literal('attach'), shell: nullableText, tty: Tty }),
  /** Input of a running command. Its output is in its output events. */
  Type.Object({ kind: Type.Literal('input'), execId: Type.String() }),
  /** `user`: as in a command; null for root. */
  Type.Object({ kind: Type.Literal('file'), operation: FileOperation, user: nullableText, direct }),
  /** A TCP connection, made inside the box. `host` null: its loopback addresses. For workers that take `ports`. */
  Type.Object({ kind: Type.Literal('port'), port: portNumber, host: nullableText }),
]);
export type StreamOperation = Static<typeof StreamOperation>;

/** The socket and the token with which the gateway opens a stream: once, and within limits.streamTokenMs. */
export const StreamGrant = Type.Object({
  socketPath: Type.String(),
  token: Type.String(),
  /** True: the worker takes the bytes of this operation over a second connection. It may send bytes so in any case. */
  direct: Type.Optional(Type.Boolean()),
});
export type StreamGrant = Static<typeof StreamGrant>;

/** Control messages on an open stream, to the worker. */
export const StreamControl = AttachInput;
export type StreamControl = Static<typeof StreamControl>;

/**
 * Control messages on an open stream, from the worker. size: a download begins; file: what a file is; done: an upload
 * is complete at its destination, or an operation on files is done; exit: the shell of a terminal has ended; connected:
 * the connection to a port stands.
 */
export const StreamReport = Type.Union([
  Type.Object({
    type: Type.Literal('size'),
    bytes: Type.Union([Type.Integer(), Type.Null()]),
    /** The permission bits of the file. An older worker does not say them. */
    mode: Type.Optional(Type.Integer()),
    mtimeS: Type.Optional(Type.Integer()),
  }),
  Type.Object({
    type: Type.Literal('file'),
    file: FileEntry,
    /** The offset of the first byte that follows. */
    offset: Type.Integer(),
    /** False for files of the kernel: they end where they end. */
    hasSize: Type.Boolean(),
  }),
  Type.Object({
    type: Type.Literal('done'),
    /** What the operation could not do exactly: files that changed meanwhile, and files that were left out. */
    changed: Type.Optional(Type.Array(Type.String())),
    leftOut: Type.Optional(Type.Array(Type.String())),
    /** Of a list: the directory has more. */
    isCut: Type.Optional(Type.Boolean()),
  }),
  Type.Object({ type: Type.Literal('connected') }),
  /**
   * A second connection carries the bytes: from the box as they are, until it ends; to the box in blocks, when `go` has
   * come. A block is its length (32 bits, little-endian) and its bytes; one of length 0 says that all was sent.
   */
  Type.Object({ type: Type.Literal('direct'), socketPath: Type.String(), token: Type.String() }),
  Type.Object({ type: Type.Literal('go') }),
  Type.Object({ type: Type.Literal('exit'), code: Type.Union([Type.Integer(), Type.Null()]) }),
]);
export type StreamReport = Static<typeof StreamReport>;

/** The directory for the files that a spare worker prepares ahead of time, before it has a box. */
export function aheadDirOf(workersDir: string, workerId: string): string {
  return `${workersDir}/${workerId}.ahead`;
}

/** The socket for streams, next to the worker's own socket. */
export function streamSocketPath(workersDir: string, workerId: string): string {
  return `${workersDir}/${workerId}.stream.sock`;
}

/** Milliseconds between TERM and KILL for the processes of the box. Absent: the worker's own default. */
const graceMs = Type.Optional(Type.Integer({ minimum: 0 }));

interface Grace {
  readonly graceMs?: number;
}
/** What a list of ports waits for. */
export interface PortWait {
  readonly port?: number;
  /** Milliseconds. */
  readonly waitMs?: number;
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
    /** See process/build.ts. Absent from workers of older builds. */
    build: Type.Optional(Type.String()),
    /** The new requests that this worker knows; see `takes`. */
    takes: Type.Optional(Type.Array(Type.String())),
    /** The digest of the settings with which the worker was started; see settingsDigest. */
    settingsDigest: Type.Optional(Type.String()),
  }),
  requests: {
    /** Makes a spare the worker of one box, for its whole life. */
    assign: { params: Assignment, result: Done },
    prepareImage: { params: Type.Object({}), result: Done, timeoutMs: limits.imagePrepareTimeoutMs },
    create: {
      params: Type.Object({}),
      result: Type.Object({ engineId: Type.String() }),
      timeoutMs: limits.boxStartTimeoutMs,
    },
    start: { params: Type.Object({}), result: Done, timeoutMs: limits.boxStartTimeoutMs },
    /**
     * Takes the engine over from a dead predecessor. The result names the commands that have processes in the box. The
     * supervisor must then send `endStrays`.
     */
    adopt: {
      params: Type.Object({}),
      result: Type.Object({
        running: Type.Boolean(),
        execIds: Type.Array(Type.String()),
        /** Commands whose output and end were kept, so that `resumeExecs` can continue them. */
        heldExecs: Type.Optional(Type.Array(Type.String())),
      }),
      timeoutMs: limits.boxStartTimeoutMs,
    },
    /**
     * Kills the commands of the predecessor, except those in `keptExecs`, and those in `finishedExecs`, whose
     * background children go on.
     */
    endStrays: {
      params: Type.Object({
        finishedExecs: Type.Array(Type.String()),
        keptExecs: Type.Optional(Type.Array(Type.String())),
      }),
      result: Done,
      timeoutMs: limits.boxStartTimeoutMs,
    },
    /** Continues commands of the predecessor. `adopt` has named them, and `endStrays` has kept them. */
    resumeExecs: { params: Type.Object({ execs: Type.Array(ResumedExec) }), result: Done },
    /** `adopt` and `endStrays` in one, as supervisors of the version before send it. */
    reattach: {
      params: Type.Object({ finishedExecs: Type.Array(Type.String()) }),
      result: Type.Object({ running: Type.Boolean() }),
      timeoutMs: limits.boxStartTimeoutMs,
    },
    /**
     * Starts a command. The worker answers when its row is committed and it has started. It holds the answer for a
     * moment, so that a short command is finished in it.
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
    /** Sends a signal to the command's program only, not to its children. */
    signal: { params: Type.Object({ execId: Type.String(), signal: Type.Integer() }), result: Exec },
    /** Makes a one-time token for a stream. The token becomes invalid with this worker, and so with its lease. */
    grant: { params: Type.Object({ operation: StreamOperation }), result: StreamGrant },
    /** Ends every command, then the engine. The disk stays. */
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
    /** What this worker and its engine use. `engine` is null if none runs. */
    figures: {
      params: Type.Object({}),
      result: Type.Object({
        boxId: nullableText,
        execsRunning: Type.Integer(),
        unacknowledgedBytes: Type.Integer(),
        /** How often the worker stopped reading output because the writer was behind. */
        outputPauses: Type.Integer(),
        residentBytes: Type.Integer(),
        engine: Type.Union([Type.Object({ cpuSeconds: Type.Number(), memoryBytes: Type.Number() }), Type.Null()]),
        /** Absent when no engine runs, and from workers of the version before. */
        agent: Type.Optional(AgentUse),
      }),
      timeoutMs: limits.healthTimeoutMs,
    },
    /** What the running engine uses. `figures` has less, because it is asked of all boxes every few seconds. */
    stats: {
      params: Type.Object({}),
      result: Type.Object({
        cpuSeconds: Type.Number(),
        memoryBytes: Type.Number(),
        diskUsedBytes: nullableNumber,
        diskSizeBytes: nullableNumber,
        processes: nullableNumber,
        networkReceivedBytes: nullableNumber,
        networkSentBytes: nullableNumber,
        /** Absent from workers of the version before. */
        agent: Type.Optional(AgentUse),
      }),
      timeoutMs: limits.healthTimeoutMs,
    },
    /** The processes in the running box. */
    processes: { params: Type.Object({}), result: Type.Array(BoxProcess), timeoutMs: 2 * limits.fileAnswerMs },
    signalProcess: {
      params: Type.Object({ pid: Type.Integer(), signal: Type.Integer() }),
      result: Done,
      timeoutMs: 2 * limits.fileAnswerMs,
    },
    /** The ports at which processes of the box listen, as soon as `port` is one of them. */
    ports: {
      params: Type.Object({ port: Type.Optional(portNumber), waitMs: Type.Optional(Type.Integer({ minimum: 0 })) }),
      result: Type.Array(ListeningPort),
      timeoutMs: (asked: PortWait) => 2 * limits.fileAnswerMs + (asked.waitMs ?? 0),
    },
    /** A supervisor that adopts this worker sends the settings of its own `serve`. */
    settings: { params: WorkerSettings, result: Done, timeoutMs: limits.helloTimeoutMs },
    /** The worker sends or spills the changes that are not acknowledged, and exits. A running engine stays. */
    leave: { params: Type.Object({}), result: Done, timeoutMs: limits.workerExitMs },
  },
  notices: {
    /** The engine has ended by itself, and its commands have failed. */
    engineExited: Type.Object({ reason: Type.String() }),
    /**
     * A command still lives limits.killTimeoutMs after its kill, so the box must be stopped. The worker repeats this to
     * each supervisor that connects.
     */
    unkillable: Type.Object({ reason: Type.String() }),
  },
} as const satisfies Contract;
export type WorkerContract = typeof workerContract;

/** Kinds of streams that workers of the version before do not know. */
const newStreams = ['file'] as const satisfies readonly StreamOperation['kind'][];
const newRequests = [
  'adopt',
  'endStrays',
  'ports',
  'processes',
  'resumeExecs',
  'settings',
  'signalProcess',
  'stats',
] as const satisfies readonly (keyof WorkerContract['requests'])[];
/**
 * The field `takes` in the hello of a worker: requests that workers of the version before do not know. Such a worker
 * closes the connection when it gets one.
 */
export const requestsTaken: readonly string[] = [...newRequests, ...newStreams];

/** True if a worker with this hello knows the request, or the stream of this kind. */
export function takes(
  hello: { readonly takes?: readonly string[] },
  request: (typeof newRequests)[number] | (typeof newStreams)[number],
): boolean {
  return hello.takes?.includes(request) ?? false;
}

/**
 * The file next to a worker's socket. It identifies the worker for a supervisor that did not start it. It has the start
 * time too, because the kernel may have given the pid to another process.
 */
export const WorkerStateFile = Type.Object({
  workerId: Type.String(),
  pid: Type.Integer(),
  startTicks: Type.Integer(),
  boxId: nullableText,
  generation: Type.Integer(),
});
export type WorkerStateFile = Static<typeof WorkerStateFile>;
