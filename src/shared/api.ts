// The public objects and request bodies of the HTTP API, as schemas. Types, validation and the API documents derive
// from them. Field names and defaults are the public contract: a change here must not break an old client.
// The SDK imports only types from here, so no browser loads the schemas.
import { Type, type Static } from 'typebox';
import { cpuLimitMin, graceSMax, labelsMax, ulimitNames } from './request-bounds.ts';
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()]);

/** The kernel ends every argument and path at a NUL byte, so text must not contain one. */
const textWithoutNul = Type.String({ pattern: '^[^\\u0000]*$' });
const absolutePath = Type.String({ pattern: '^/[^\\u0000]*$' });
export const Environment = Type.Record(Type.String({ pattern: '^[^=\\u0000]+$' }), textWithoutNul, {
  additionalProperties: false,
});

const labelKey = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$' });
const labelText = Type.String({ maxLength: 255 });
/** Notes of the user on a box, to find it again. BoxRun does not interpret them. */
export const Labels = Type.Record(labelKey, labelText, { additionalProperties: false, maxProperties: labelsMax });

export const boxStatuses = ['creating', 'running', 'stopped', 'error'] as const;
export type BoxStatus = (typeof boxStatuses)[number];
export const execStatuses = ['running', 'succeeded', 'failed', 'canceled'] as const;
export type ExecStatus = (typeof execStatuses)[number];

export const Volume = Type.Object({
  host_path: absolutePath,
  guest_path: absolutePath,
  readonly: Type.Boolean({ default: false }),
});
export type Volume = Static<typeof Volume>;

const ulimitValue = Type.Integer({ minimum: -1, maximum: Number.MAX_SAFE_INTEGER });
/** A limit for each process of a box, in the units of setrlimit(2). -1 means unlimited. */
export const Ulimit = Type.Object({ name: Type.Enum([...ulimitNames]), soft: ulimitValue, hard: ulimitValue });
export type Ulimit = Static<typeof Ulimit>;

export const Box = Type.Object({
  id: Type.String(),
  name: nullable(Type.String()),
  status: Type.Enum([...boxStatuses]),
  image: Type.String(),
  cpu: Type.Integer(),
  memory_mb: Type.Integer(),
  disk_size_gb: Type.Integer(),
  network: Type.Boolean(),
  workdir: Type.String(),
  env: nullable(Type.Record(Type.String(), Type.String())),
  volumes: nullable(Type.Array(Volume)),
  boxlite_id: nullable(Type.String()),
  error_code: nullable(Type.String()),
  error_message: nullable(Type.String()),
  created_at: Type.String(),
  started_at: nullable(Type.String()),
  stopped_at: nullable(Type.String()),
  /** Empty if the create request gave none. */
  labels: Type.Record(Type.String(), Type.String()),
  /** The limits from the create request, without the fixed ones. */
  ulimits: nullable(Type.Array(Ulimit)),
  /** How many CPUs the box can use at most, at most `cpu`; null: `cpu`. Older servers omit the field. */
  cpu_limit: Type.Optional(nullable(Type.Number())),
  /** Seconds that the processes have to end at a stop; null: the server's default. Older servers omit the field. */
  stop_grace_s: Type.Optional(nullable(Type.Number())),
});
export type Box = Static<typeof Box>;

/**
 * What a command used. A member is null if the way by which the command was started does not say it: only the agent
 * knows the first two, in a micro-VM only the agent knows the third, and only the container driver knows the last one.
 */
export const ExecUsage = Type.Object({
  /** CPU time of the command and of its children that it has waited for. */
  cpu_seconds: nullable(Type.Number()),
  /** The largest memory in RAM of one of these processes. */
  peak_memory_bytes: nullable(Type.Integer()),
  /** How many processes of the box the kernel has killed meanwhile because memory ran out. */
  oom_kills: nullable(Type.Integer()),
  /** How long the box had to wait meanwhile because it had used its share of the CPUs. */
  throttled_seconds: nullable(Type.Number()),
});
export type ExecUsage = Static<typeof ExecUsage>;

export const Exec = Type.Object({
  id: Type.String(),
  box_id: Type.String(),
  status: Type.Enum([...execStatuses]),
  cmd: Type.Array(Type.String()),
  env: nullable(Type.Record(Type.String(), Type.String())),
  workdir: nullable(Type.String()),
  timeout_ms: nullable(Type.Integer()),
  exit_code: nullable(Type.Integer()),
  error_message: nullable(Type.String()),
  created_at: Type.String(),
  finished_at: nullable(Type.String()),
  /** Null while the command runs, and if its end is not known. */
  usage: Type.Optional(nullable(ExecUsage)),
  /** Only for a terminal that clients can leave, and attach to again: true. */
  detachable: Type.Optional(Type.Boolean()),
});
export type Exec = Static<typeof Exec>;

/** Kinds of state events. The stream of changes also has `ready` (its start) and `reset` (a gap). */
export const stateKinds = ['box.created', 'box.changed', 'box.removed', 'exec.started', 'exec.finished'] as const;
export type StateKind = (typeof stateKinds)[number];

/** `data` of the events `box.created`, `box.changed` and `box.removed`: the box at that moment, or its last state. */
export const BoxStateData = Type.Object({ at: Type.String(), box: Box });
export type BoxStateData = Static<typeof BoxStateData>;

/** `data` of the events `exec.started` and `exec.finished`. */
export const ExecStateData = Type.Object({ at: Type.String(), exec: Exec });
export type ExecStateData = Static<typeof ExecStateData>;

const boxName = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$' });
const image = Type.String({ minLength: 1, maxLength: 512, pattern: '^[^\\u0000\\s]+$' });
const cmd = Type.Array(textWithoutNul, { minItems: 1 });
const timeoutMs = Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 });
const resources = {
  cpu: Type.Integer({ minimum: 1, maximum: 255, default: 2 }),
  /** At most `cpu`. Null: `cpu`. */
  cpu_limit: Type.Optional(nullable(Type.Number({ minimum: cpuLimitMin, maximum: 255 }))),
  memory_mb: Type.Integer({ minimum: 1, maximum: 2 ** 31, default: 1024 }),
  disk_size_gb: Type.Integer({ minimum: 1, maximum: 65_536, default: 8 }),
  network: Type.Boolean({ default: false }),
  env: Type.Optional(nullable(Environment)),
  volumes: Type.Optional(nullable(Type.Array(Volume))),
  /** For the commands of the box. Each name at most once; other limits have fixed values. */
  ulimits: Type.Optional(nullable(Type.Array(Ulimit, { maxItems: ulimitNames.length }))),
};

/** Seconds between the request to end (TERM, and HUP for terminals) and KILL. */
export const graceS = Type.Number({ minimum: 0, maximum: graceSMax });

export const CreateBoxBody = Type.Object({
  image,
  name: Type.Optional(nullable(boxName)),
  ...resources,
  workdir: { ...absolutePath, default: '/root' },
  /** For every stop request that gives no `grace_s`. */
  stop_grace_s: Type.Optional(nullable(graceS)),
  labels: Type.Optional(nullable(Labels)),
});
export type CreateBoxBody = Static<typeof CreateBoxBody>;

/** Changes of a box. An absent field stays as it is. Null removes the name, all labels, or one label. */
export const UpdateBoxBody = Type.Object({
  name: Type.Optional(nullable(boxName)),
  labels: Type.Optional(
    nullable(
      // One request can replace all labels of a box: it removes every old key and sets as many new ones.
      Type.Record(labelKey, nullable(labelText), { additionalProperties: false, maxProperties: 2 * labelsMax }),
    ),
  ),
});
export type UpdateBoxBody = Static<typeof UpdateBoxBody>;

export const ExecBody = Type.Object({
  cmd,
  env: Type.Optional(nullable(Environment)),
  workdir: Type.Optional(nullable(absolutePath)),
  timeout_ms: Type.Optional(nullable(timeoutMs)),
  /** NAME or ID, with an optional :GROUP. Null: the user of the image. */
  user: Type.Optional(nullable(Type.String({ pattern: '^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}$' }))),
  /** True: the client sends input over the WebSocket of the exec. Else the command has no input. */
  stdin: Type.Optional(Type.Boolean()),
  /** True: the command runs in a terminal of `cols` by `rows` characters, where stderr is part of stdout. */
  tty: Type.Optional(Type.Boolean()),
  cols: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
  rows: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
  /**
   * True: the terminal is made to be left and attached to again. It has input, and only its newest output is kept.
   * Needs `tty`.
   */
  detachable: Type.Optional(Type.Boolean()),
  /** True: lists of commands and state events leave it out. For commands that a client needs for its own work. */
  internal: Type.Optional(Type.Boolean()),
});
export type ExecBody = Static<typeof ExecBody>;

const terminalSize = Type.Integer({ minimum: 1, maximum: 65_535 });

/** Text frames that the client sends on the WebSocket of a shell or a command: the terminal's size, the input's end. */
export const AttachInput = Type.Union([
  Type.Object({ type: Type.Literal('resize'), cols: terminalSize, rows: terminalSize }),
  Type.Object({ type: Type.Literal('eof') }),
]);

/** Text frames that the server sends on the WebSocket of a shell or a command. `data` is base64. */
export const AttachOutput = Type.Union([
  Type.Object({ type: Type.Literal('stderr'), data: Type.String() }),
  Type.Object({ type: Type.Literal('exit'), code: nullable(Type.Integer()), error: Type.Optional(Type.String()) }),
  Type.Object({ type: Type.Literal('error'), code: Type.String(), message: Type.String() }),
]);
export type AttachOutput = Static<typeof AttachOutput>;

/** A signal by name, with or without SIG, or by number. */
export const SignalBody = Type.Object({
  signal: Type.Union([Type.String(), Type.Integer({ minimum: 1, maximum: 64 })]),
});
export type SignalBody = Static<typeof SignalBody>;

export const DownloadBody = Type.Object({ path: Type.String() });
export type DownloadBody = Static<typeof DownloadBody>;
export const UploadResult = Type.Object({ ok: Type.Boolean(), dest: Type.String() });
export type UploadResult = Static<typeof UploadResult>;

export const RunBody = Type.Object({ image, cmd, ...resources, timeout_ms: Type.Optional(nullable(timeoutMs)) });
export type RunBody = Static<typeof RunBody>;

export const RunResult = Type.Object({
  exit_code: nullable(Type.Integer()),
  stdout: Type.String(),
  stderr: Type.String(),
  error_message: nullable(Type.String()),
});
export type RunResult = Static<typeof RunResult>;

export const StopBody = Type.Object({ grace_s: Type.Optional(graceS) });
export type StopBody = Static<typeof StopBody>;

/** `older_than` is in seconds. The server removes boxes that have been stopped or failed for longer. */
export const GcBody = Type.Object({ older_than: Type.Integer({ minimum: 0, default: 3600 }) });
export type GcBody = Static<typeof GcBody>;
export const GcResult = Type.Object({ removed: Type.Integer() });
export type GcResult = Static<typeof GcResult>;

export const Info = Type.Object({ max_cpu: Type.Integer(), max_memory_mb: Type.Integer(), driver: Type.String() });
export type Info = Static<typeof Info>;

/**
 * What all boxes reserve and use at one moment, and the requests that this gateway answered since the previous sample.
 */
export const UsageSample = Type.Object({
  at: Type.String(),
  boxes_running: Type.Integer(),
  /** All boxes, stopped ones too. */
  boxes: Type.Integer(),
  max_boxes: Type.Integer(),
  /** Of the file system with the state directory, which also holds the disks of the boxes. */
  disk_free_mb: Type.Integer(),
  disk_size_mb: Type.Integer(),
  cpu_reserved: Type.Number(),
  memory_reserved_mb: Type.Number(),
  /** In CPUs, as the mean since the previous sample: 0.5 is half of one CPU. */
  cpu_used: Type.Number(),
  memory_used_mb: Type.Number(),
  execs_per_second: Type.Number(),
  /** Median duration of create and exec requests, in milliseconds. Null if there was no such request. */
  create_ms: nullable(Type.Number()),
  exec_ms: nullable(Type.Number()),
});
export type UsageSample = Static<typeof UsageSample>;

export const agentWays = ['socket', 'vsock', 'none'] as const;
export const agentReasons = ['off', 'host', 'earlier_version', 'not_started'] as const;
/**
 * How commands of a running box start: by the agent in it, over a socket (container) or over vsock (micro-VM), or
 * without it (`none`). Then `reason` says why. `off`: it is switched off. `host`: it is not used on this kind of host.
 * `earlier_version`: a version without it started the box. `not_started`: it did not start, or ended too often.
 */
export const AgentUse = Type.Object({ way: Type.Enum([...agentWays]), reason: nullable(Type.Enum([...agentReasons])) });
export type AgentUse = Static<typeof AgentUse>;

/** What a running box uses. `cpu_used` is null in its first sample, because it is a mean between two samples. */
export const BoxUsage = Type.Object({
  cpu_used: nullable(Type.Number()),
  memory_used_mb: Type.Number(),
  /** Absent: the worker is of an earlier version and does not say it. */
  agent: Type.Optional(AgentUse),
});
export type BoxUsage = Static<typeof BoxUsage>;

/** What one running box uses at the moment `at`. Null: the engine does not say it. */
export const BoxStats = Type.Object({
  at: Type.String(),
  /** CPU time of all processes since the box was started. */
  cpu_seconds: nullable(Type.Number()),
  memory_bytes: nullable(Type.Integer()),
  memory_limit_bytes: Type.Integer(),
  /** What the file system of the box holds, and its size. Volumes do not count. */
  disk_used_bytes: nullable(Type.Integer()),
  disk_size_bytes: nullable(Type.Integer()),
  processes: nullable(Type.Integer()),
  /** Since the box was started. Null without a network. */
  network_received_bytes: nullable(Type.Integer()),
  network_sent_bytes: nullable(Type.Integer()),
  /** Absent: the worker is of an earlier version and does not say it. */
  agent: Type.Optional(AgentUse),
});
export type BoxStats = Static<typeof BoxStats>;

/** One process of a box, as programs in the box see it. */
export const BoxProcess = Type.Object({
  pid: Type.Integer(),
  ppid: Type.Integer(),
  uid: Type.Integer(),
  /** The name of the user, or its number if the box has no name for it. */
  user: Type.String(),
  /** One letter, as in `ps`: R runs, S sleeps, D waits for a device, T is stopped, Z has ended. */
  state: Type.String(),
  /** CPU time since the process began. */
  cpu_seconds: Type.Number(),
  /** Memory in RAM (resident set). */
  memory_bytes: Type.Integer(),
  age_seconds: Type.Integer(),
  /** The words of the command line, joined by blanks. */
  command: Type.String(),
  /** The command that the process belongs to. Null: the engine does not say it. */
  exec_id: nullable(Type.String()),
});
export type BoxProcess = Static<typeof BoxProcess>;

const fileType = Type.Union([
  Type.Literal('file'),
  Type.Literal('directory'),
  Type.Literal('link'),
  Type.Literal('fifo'),
  Type.Literal('socket'),
  Type.Literal('character_device'),
  Type.Literal('block_device'),
]);
/** A file of a box, as the box sees it. */
export const FileEntry = Type.Object({
  /** The last name of the path. Bytes that are not UTF-8 are U+FFFD in it. */
  name: Type.String(),
  /** The exact bytes of a name that is not UTF-8. */
  name_base64: Type.Optional(Type.String()),
  type: fileType,
  /** In bytes. Files of the kernel, such as those in /proc, have no true size. */
  size: Type.Integer(),
  /** The permission bits in octal, with setuid, setgid and sticky, such as `0644`. */
  mode: Type.String(),
  uid: Type.Integer(),
  gid: Type.Integer(),
  /** How many names the file has. */
  links: Type.Integer(),
  modified_at: Type.String(),
  /** Where a link leads. */
  target: Type.Optional(Type.String()),
});
export type FileEntry = Static<typeof FileEntry>;

export const FileList = Type.Object({
  entries: Type.Array(FileEntry),
  /** True if the directory has more entries than `limit`. */
  is_cut: Type.Boolean(),
});
export type FileList = Static<typeof FileList>;

/** `data` of the events of a watch. `path` is relative to what is watched, and empty for that itself. */
export const FileChange = Type.Object({ path: Type.String(), is_directory: Type.Boolean() });
export type FileChange = Static<typeof FileChange>;

/** A TCP port at which a process in a box listens. */
export const ListeningPort = Type.Object({
  port: Type.Integer(),
  /** The address at which it listens: `0.0.0.0` and `::` mean every address of the box. */
  address: Type.String(),
  /** Null: the process belongs to another user than root, and the engine does not say which one it is. */
  pid: nullable(Type.Integer()),
  /** The words of its command line, joined by blanks. Null if the pid is. */
  command: nullable(Type.String()),
});
export type ListeningPort = Static<typeof ListeningPort>;
export const BoxPort = Type.Object({
  ...ListeningPort.properties,
  /** Where a browser reaches the port through the server. Null if the server listens on no TCP address. */
  url: nullable(Type.String()),
});
export type BoxPort = Static<typeof BoxPort>;

/** A link to a port, which logs in one browser, once. It is valid for `expires_in` seconds. */
export const PortLink = Type.Object({ url: Type.String(), expires_in: Type.Integer() });
export type PortLink = Static<typeof PortLink>;

/** A text frame of the WebSocket of a port, in both directions: its sender sends no more bytes. */
export const PortMessage = Type.Object({ type: Type.Literal('eof') });
export type PortMessage = Static<typeof PortMessage>;

const boxUsage = Type.Record(Type.String(), BoxUsage);
/** `data` of the event `history`: the samples, oldest first, and the present use of each box. */
export const UsageHistory = Type.Object({ samples: Type.Array(UsageSample), boxes: boxUsage });
export type UsageHistory = Static<typeof UsageHistory>;
/** `data` of the event `sample`. */
export const UsageUpdate = Type.Object({ sample: UsageSample, boxes: boxUsage });
export type UsageUpdate = Static<typeof UsageUpdate>;

/** `bytes`, `digest` and `imported_at` are null for the built-in image. */
export const Images = Type.Object({
  images: Type.Array(
    Type.Object({
      name: Type.String(),
      bytes: nullable(Type.Integer()),
      digest: nullable(Type.String()),
      imported_at: nullable(Type.String()),
    }),
  ),
  /** Short names with the references that they stand for. */
  aliases: Type.Record(Type.String(), Type.String()),
});
export type Images = Static<typeof Images>;

/** An imported image, `base`, a short name, or a reference to a registry. */
export const PullBody = Type.Object({ image });
export type PullBody = Static<typeof PullBody>;
/** The image that is ready: its name, or its reference without a short name. */
export const PullResult = Type.Object({ image: Type.String() });
export type PullResult = Static<typeof PullResult>;

/** A link that logs in one browser, once. It is valid for `expires_in` seconds. */
export const UiLink = Type.Object({ url: Type.String(), expires_in: Type.Integer() });
export type UiLink = Static<typeof UiLink>;

/** The body of every error answer. */
export const ErrorBody = Type.Object({
  code: Type.String(),
  message: Type.String(),
  hint: Type.Optional(Type.String()),
});
export type ErrorBody = Static<typeof ErrorBody>;

/** One step of a long create. The server sends it only to clients that ask for `text/event-stream`. */
export const Progress = Type.Object({
  /** The stage for programs, such as `pull`, `unpack` or `start`. */
  stage: Type.String(),
  message: Type.String(),
});
export type Progress = Static<typeof Progress>;
