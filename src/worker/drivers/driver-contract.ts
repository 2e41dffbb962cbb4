// The boundary to an engine: what a worker can ask for, and what an engine must promise. One driver value serves one
// box. The worker's control.ts calls it; boxlite/ and container/ implement it. Nothing outside src/worker/drivers knows
// an engine's own words.
import type { Readable, Writable } from 'node:stream';
import type { Logger } from 'pino';
import type { Ulimit, Volume } from '../../shared/api.ts';
import type { ImageSource } from '../../shared/images/source.ts';

/** What a box is to be. Validated by the gateway; paths are absolute. */
export interface BoxSpec {
  readonly boxId: string;
  readonly image: ImageSource;
  readonly cpu: number;
  readonly memoryMb: number;
  readonly diskSizeGb: number;
  /** False: only a loopback interface. True: outbound TCP, UDP and DNS, but no way to services of the host. */
  readonly network: boolean;
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly volumes: readonly Volume[];
  /** Of its commands, over the fixed ones. */
  readonly ulimits?: readonly Ulimit[];
  /** Of ids of the host, for this box alone; absent or null: it has none of its own. */
  readonly idBlock?: number | null;
  /** The engine's name for a box that has been made before; absent or null for a new one. */
  readonly engineId?: string | null;
}

export interface DriverContext {
  readonly spec: BoxSpec;
  /** Directory that belongs to this box for its life; the driver makes it, and `remove` deletes it. */
  readonly homeDir: string;
  /** Directory shared by all boxes of this state directory: images, layers, what is prepared from them. */
  readonly imagesDir: string;
  /** Directories of the host below which volumes must lie; anywhere when there is none. */
  readonly volumeRoots: readonly string[];
  /** Where `prepareAhead` of this driver has been in this process, if it has. */
  readonly aheadDir?: string;
  /** Identity of this database; marks everything that outlives a process, so that only its owner cleans it up. */
  readonly instanceId: string;
  readonly log: Logger;
  /** The engine ended without being asked to; called at most once per start. */
  readonly onEngineExit: (reason: string) => void;
}

/** Tells a waiting user what a long call is doing, e.g. ('pull', 'pulling alpine:3.20'). */
export type ReportProgress = (stage: string, message: string) => void;

export interface ExecRequest {
  readonly execId: string;
  /** Non-empty; `cmd[0]` is searched in the PATH of the command's environment inside the box. */
  readonly cmd: readonly string[];
  /** On top of the box's own environment. */
  readonly env: Readonly<Record<string, string>>;
  /**
   * Absolute. A missing one is an exec that fails (exit 1, message on stderr). Where null, the box's own workdir, or
   * `/` for a user other than root to whom that is closed.
   */
  readonly workdir: string | null;
  readonly user: string | null;
  /** A terminal: stderr is merged into stdout, and the size is set before the command sees it. */
  readonly tty: { readonly cols: number; readonly rows: number; readonly term: string } | null;
  readonly stdin: boolean;
}

/**
 * `exitCode` as a shell would say it: 127 not found, 126 not executable, 128+n for signal n. `lost`: the engine cannot
 * tell, with its reason. `outOfMemory`: the kernel killed something for lack of memory meanwhile, in words for the
 * user.
 */
export type ExecExit = { readonly exitCode: number; readonly outOfMemory?: string } | { readonly lost: string };

export interface ExecHandle {
  /**
   * Bytes as the command wrote them, with back-pressure where the engine has it. Ends when the last holder of the pipe
   * is gone.
   */
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly stdin: Writable | null;
  /** The leader's end; never rejects. Output may still be in the streams, and children may hold them open. */
  readonly exit: Promise<ExecExit>;
  resize(cols: number, rows: number): Promise<void>;
  /** To the leader only. */
  signal(signal: number): Promise<void>;
  /**
   * After the leader's end: whether anything of its tree lives on. Nothing does: what still comes out is the leader's
   * own.
   */
  hasChildren(): Promise<boolean>;
  /** SIGKILL to the whole tree: background children, new sessions, double forks. Resolves when none is left. */
  killTree(): Promise<void>;
}

export interface BoxMetrics {
  readonly cpuSeconds: number;
  readonly memoryBytes: number;
}

/**
 * Calls are made one at a time, except `exec`, `metrics` and the members of handles, which run in parallel while the
 * box runs. Errors are BoxRunError with a code of the catalogue (IMAGE_PULL_FAILED, TIMEOUT, RUNTIME_ERROR …) and a
 * hint where there is one.
 */
export interface Driver {
  /** How long /bin/true takes through this engine, start to exit; the first guess for holding answers. */
  readonly shortExecMs: number;
  /** Inside the box: a static busybox that nothing in the box can replace. */
  readonly busyboxPath: string;
  /** False: output is text, bytes that are none are lost, and so is what comes faster than it is read. */
  readonly outputIsExact: boolean;
  /**
   * Makes the image ready for this host: pull, unpack, conversion. The supervisor lets one worker at a time do so per
   * image.
   * @throws IMAGE_PULL_FAILED
   */
  prepareImage(progress: ReportProgress, signal: AbortSignal): Promise<void>;
  /**
   * Makes the box's disk and the engine's own record; starts nothing. Returns the engine's name for the box. `remove`
   * undoes it.
   */
  create(progress: ReportProgress, signal: AbortSignal): Promise<{ engineId: string }>;
  /** From created or stopped to running, able to exec. On failure nothing of it is left running. */
  start(progress: ReportProgress, signal: AbortSignal): Promise<void>;
  /**
   * After the predecessor's death: takes over what runs. Says 'stopped' when nothing usable does (what was left of it
   * is then cleaned up).
   */
  reattach(): Promise<'running' | 'stopped'>;
  /**
   * Rejects only when the engine itself fails: a command that cannot be started is a handle that exits 126 or 127 with
   * a message on stderr.
   */
  exec(request: ExecRequest): Promise<ExecHandle>;
  /** Commands that a predecessor started and of which processes may be left. */
  foundExecs(): Promise<string[]>;
  /**
   * Kills the whole trees of commands that a predecessor started, except those named in `finished`: their background
   * children live on.
   */
  killStrayExecs(finished: ReadonlySet<string>): Promise<void>;
  /**
   * Asks what runs to end (HUP to what has a terminal, TERM to all), kills it after `graceMs` milliseconds; the disk
   * stays. Resolves when no process of the box is left.
   */
  stop(graceMs: number): Promise<void>;
  /**
   * From any state, half-made ones included, and repeatable: no process, mount, cgroup, socket or file of the box is
   * left. What runs is asked to end first, and has `graceMs` milliseconds for it (none when absent).
   */
  remove(graceMs?: number): Promise<void>;
  metrics(): Promise<BoxMetrics>;
  /** Lets go of a running box without stopping it. */
  close(): Promise<void>;
}

export type CreateDriver = (context: DriverContext) => Driver;
