// The public objects and request bodies of the HTTP API, as schemas from which types, validation and docs derive.
// Read by the gateway (validation), the SDK and the command line (types). Field names and defaults are the public
// contract: an old client must never notice a change here.
import { Type, type Static } from 'typebox';
import { graceSMax, ulimitNames } from './boxes/request-bounds.ts';
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()]);

/** No NUL byte: the kernel ends every argument and path at it. */
const textWithoutNul = Type.String({ pattern: '^[^\\u0000]*$' });
const absolutePath = Type.String({ pattern: '^/[^\\u0000]*$' });
export const Environment = Type.Record(Type.String({ pattern: '^[^=\\u0000]+$' }), textWithoutNul, {
  additionalProperties: false,
});

/** What users note on a box, to find it again; it means nothing to BoxRun. */
export const Labels = Type.Record(
  Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$' }),
  Type.String({ maxLength: 255 }),
  { additionalProperties: false, maxProperties: 64 },
);

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
/** A limit of each process, in the units of setrlimit(2); -1 is unlimited. */
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
  /** Empty where none were given. */
  labels: Type.Record(Type.String(), Type.String()),
  /** Those that were asked for. */
  ulimits: nullable(Type.Array(Ulimit)),
  /** Seconds that its processes have to end at a stop; null for the server's default. Older servers leave it out. */
  stop_grace_s: Type.Optional(nullable(Type.Number())),
});
export type Box = Static<typeof Box>;

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
});
export type Exec = Static<typeof Exec>;

/** What the stream of changes tells, beside where it begins (`ready`) and where it has a gap (`reset`). */
export const stateKinds = ['box.created', 'box.changed', 'box.removed', 'exec.started', 'exec.finished'] as const;
export type StateKind = (typeof stateKinds)[number];

/** `data` of the events `box.created`, `box.changed` and `box.removed`: the box as it is then, or was at last. */
export const BoxState = Type.Object({ at: Type.String(), box: Box });
export type BoxState = Static<typeof BoxState>;

/** `data` of the events `exec.started` and `exec.finished`. */
export const ExecState = Type.Object({ at: Type.String(), exec: Exec });
export type ExecState = Static<typeof ExecState>;

const image = Type.String({ minLength: 1, maxLength: 512, pattern: '^[^\\u0000\\s]+$' });
const cmd = Type.Array(textWithoutNul, { minItems: 1 });
const timeoutMs = Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 });
const resources = {
  cpu: Type.Integer({ minimum: 1, maximum: 255, default: 2 }),
  memory_mb: Type.Integer({ minimum: 1, maximum: 2 ** 31, default: 1024 }),
  disk_size_gb: Type.Integer({ minimum: 1, maximum: 65_536, default: 8 }),
  network: Type.Boolean({ default: false }),
  env: Type.Optional(nullable(Environment)),
  volumes: Type.Optional(nullable(Type.Array(Volume))),
  /** Of its commands, each name once; the others have fixed values. */
  ulimits: Type.Optional(nullable(Type.Array(Ulimit, { maxItems: ulimitNames.length }))),
};

/** How long processes have to end by themselves (TERM, and HUP for terminals) before they are killed, in seconds. */
export const graceS = Type.Number({ minimum: 0, maximum: graceSMax });

export const CreateBoxBody = Type.Object({
  image,
  name: Type.Optional(nullable(Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$' }))),
  ...resources,
  workdir: { ...absolutePath, default: '/root' },
  /** For every stop that names no other time. */
  stop_grace_s: Type.Optional(nullable(graceS)),
  labels: Type.Optional(nullable(Labels)),
});
export type CreateBoxBody = Static<typeof CreateBoxBody>;

export const ExecBody = Type.Object({
  cmd,
  env: Type.Optional(nullable(Environment)),
  workdir: Type.Optional(nullable(absolutePath)),
  timeout_ms: Type.Optional(nullable(timeoutMs)),
  /** NAME or ID, with :GROUP where wanted; the image's own where null. */
  user: Type.Optional(nullable(Type.String({ pattern: '^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}$' }))),
  /** Its input comes by the WebSocket of the exec; without it there is none. */
  stdin: Type.Optional(Type.Boolean()),
  /** A terminal, of `cols` by `rows` characters; stderr is merged into stdout. */
  tty: Type.Optional(Type.Boolean()),
  cols: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
  rows: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
});
export type ExecBody = Static<typeof ExecBody>;

const terminalSize = Type.Integer({ minimum: 1, maximum: 65_535 });

/**
 * Text frames on the WebSocket of a shell or a command, from the client: the size of its terminal, and the end of its
 * input.
 */
export const AttachInput = Type.Union([
  Type.Object({ type: Type.Literal('resize'), cols: terminalSize, rows: terminalSize }),
  Type.Object({ type: Type.Literal('eof') }),
]);

/** ... and from the server. `data` is base64. */
export const AttachOutput = Type.Union([
  Type.Object({ type: Type.Literal('stderr'), data: Type.String() }),
  Type.Object({ type: Type.Literal('exit'), code: nullable(Type.Integer()), error: Type.Optional(Type.String()) }),
  Type.Object({ type: Type.Literal('error'), code: Type.String(), message: Type.String() }),
]);
export type AttachOutput = Static<typeof AttachOutput>;

/** By name, with or without SIG, or by number. */
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

/** Seconds; boxes stopped or failed for longer are removed. */
export const StopBody = Type.Object({ grace_s: Type.Optional(graceS) });
export type StopBody = Static<typeof StopBody>;

export const GcBody = Type.Object({ older_than: Type.Integer({ minimum: 0, default: 3600 }) });
export type GcBody = Static<typeof GcBody>;
export const GcResult = Type.Object({ removed: Type.Integer() });
export type GcResult = Static<typeof GcResult>;

export const Info = Type.Object({ max_cpu: Type.Integer(), max_memory_mb: Type.Integer(), driver: Type.String() });
export type Info = Static<typeof Info>;

/** What all boxes reserve and use at one moment, and what clients asked for since the moment before. */
export const UsageSample = Type.Object({
  at: Type.String(),
  boxes_running: Type.Integer(),
  /** Stopped ones too, and how many there may be. */
  boxes: Type.Integer(),
  max_boxes: Type.Integer(),
  /** Where the server keeps its state and the boxes their disks. */
  disk_free_mb: Type.Integer(),
  disk_size_mb: Type.Integer(),
  cpu_reserved: Type.Number(),
  memory_reserved_mb: Type.Number(),
  /** In CPUs: 0.5 is half of one, over the time since the moment before. */
  cpu_used: Type.Number(),
  memory_used_mb: Type.Number(),
  execs_per_second: Type.Number(),
  /** Medians of the answers to creates and execs, in milliseconds; null where there was none. */
  create_ms: nullable(Type.Number()),
  exec_ms: nullable(Type.Number()),
});
export type UsageSample = Static<typeof UsageSample>;

/** What a running box uses; its CPU is known from the second moment on. */
export const BoxUsage = Type.Object({ cpu_used: nullable(Type.Number()), memory_used_mb: Type.Number() });
export type BoxUsage = Static<typeof BoxUsage>;

const boxUsage = Type.Record(Type.String(), BoxUsage);
/** The event `history`, oldest first, and the boxes as they are now. */
export const UsageHistory = Type.Object({ samples: Type.Array(UsageSample), boxes: boxUsage });
export type UsageHistory = Static<typeof UsageHistory>;
/** The event `sample`. */
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
  /** Short names, and the references that they stand for. */
  aliases: Type.Record(Type.String(), Type.String()),
});
export type Images = Static<typeof Images>;

/** A link that logs one browser in, within `expires_in` seconds. */
export const UiLink = Type.Object({ url: Type.String(), expires_in: Type.Integer() });
export type UiLink = Static<typeof UiLink>;

/** Body of every error answer. */
export const ErrorBody = Type.Object({
  code: Type.String(),
  message: Type.String(),
  hint: Type.Optional(Type.String()),
});
export type ErrorBody = Static<typeof ErrorBody>;

/** One line of progress of a long create, sent only to clients that ask for `text/event-stream`. */
export const Progress = Type.Object({
  /** Machine-readable stage, such as `pull`, `unpack`, `start`. */
  stage: Type.String(),
  message: Type.String(),
});
export type Progress = Static<typeof Progress>;
