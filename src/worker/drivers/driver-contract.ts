// The contract between a worker and an engine: the calls of the worker, and the promises of the engine. One driver
// value serves one box. The engine's own terms do not appear outside of src/worker/drivers.
import type { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { Logger } from 'pino';
import type { AgentUse, Ulimit, Volume } from '../../shared/api.ts';
import type { ImageSource } from '../../shared/images/source.ts';

/** The specification of a box. The gateway has validated it. Paths are absolute. */
export interface BoxSpec {
  readonly boxId: string;
  readonly image: ImageSource;
  readonly cpu: number;
  /** How many CPUs the processes of the box use at most, all together. Absent or null: `cpu`. */
  readonly cpuLimit?: number | null;
  readonly memoryMb: number;
  readonly diskSizeGb: number;
  /** False: only a loopback interface. True: outbound TCP, UDP and DNS, but no service of the host can be reached. */
  readonly network: boolean;
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly volumes: readonly Volume[];
  /** Limits for the commands of the box. They replace the driver's fixed limits of the same name. */
  readonly ulimits?: readonly Ulimit[];
  /** The number of the block of host ids that only this box uses. Null or absent: it has no block of its own. */
  readonly idBlock?: number | null;
  /** The engine's name for a box that exists already. Null or absent for a new box. */
  readonly engineId?: string | null;
}

export interface DriverContext {
  readonly spec: BoxSpec;
  /** The directory of this box on the host. `remove` removes it. */
  readonly homeDir: string;
  /** The directory that all boxes of this state directory share. It has images, layers, and files made from them. */
  readonly imagesDir: string;
  /** Volumes must lie below one of these directories of the host. If the list is empty, they may lie anywhere. */
  readonly volumeRoots: readonly string[];
  /** The directory that `prepareAhead` of this driver has filled in this process. Absent if it was not called. */
  readonly aheadDir?: string;
  /** The generation of the worker's lease. What outlives a worker obeys the worker with the highest one. */
  readonly generation: number;
  /** The identity of this database. It is the mark on everything that outlives a process: only its owner removes it. */
  readonly instanceId: string;
  readonly log: Logger;
  /** The driver calls this when the engine ended without a stop or a removal; at most once per start. */
  readonly onEngineExit: (reason: string) => void;
}

/** Tells a waiting user the progress of a long call, for example ('pull', 'pulling alpine:3.20'). */
export type ReportProgress = (stage: string, message: string) => void;

export interface ExecRequest {
  readonly execId: string;
  /** Not empty. The driver looks for `cmd[0]` inside the box, in the PATH of the command's environment. */
  readonly cmd: readonly string[];
  /** Variables in addition to those of the box. They replace variables of the same name. */
  readonly env: Readonly<Record<string, string>>;
  /**
   * An absolute path. If the directory does not exist, the command exits with 1 and a message on stderr. Null: the
   * workdir of the box, or `/` if a user other than root may not enter that one.
   */
  readonly workdir: string | null;
  readonly user: string | null;
  /** With a terminal, stderr goes into stdout. The size of the terminal is set before the command starts. */
  readonly tty: { readonly cols: number; readonly rows: number; readonly term: string } | null;
  readonly stdin: boolean;
  /** True: the caller uses `acknowledge` and `forget` of the handle. */
  readonly acknowledges?: boolean;
  /**
   * One of the streams of the command is this socket, and not a pipe; the handle has an ended stream instead. The
   * caller closes its own side when the command has begun. Only for drivers that take sockets.
   */
  readonly socket?: { readonly is: 'stdin' | 'stdout'; readonly socket: Socket };
}

/**
 * `exitCode` has a shell's meaning: 127 not found, 126 not executable, 128+n killed by signal n. `outOfMemory` is a
 * text for the user: the kernel killed a process meanwhile, because the box had too little memory. `lost` is the reason
 * for which the driver does not know how the command ended.
 */
export type ExecExit = { readonly exitCode: number; readonly outOfMemory?: string } | { readonly lost: string };

/** What a command used. Null: the way by which it was started does not say it. */
export interface CommandUsage {
  /** CPU time of the command and of its children that it has waited for. */
  readonly cpuSeconds: number | null;
  /** The largest memory in RAM (resident set) of one of these processes. */
  readonly peakMemoryBytes: number | null;
  /** How many processes of the box the kernel has killed meanwhile because memory ran out. */
  readonly oomKills: number | null;
  /** How long the box had to wait meanwhile because it had used its share of the CPUs, in seconds of all its CPUs. */
  readonly throttledSeconds: number | null;
}

export interface ExecHandle {
  /** True: output is text, as without `outputIsExact` of the driver. */
  readonly isTextOnly?: boolean;
  /**
   * The bytes that the command wrote. If the engine can slow the command down, it does so when these are not read. The
   * stream ends when the last process that holds the pipe has ended.
   */
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly stdin: Writable | null;
  /**
   * Resolves when the leader has ended; never rejects. The streams may still have output, and children may hold them.
   */
  readonly exit: Promise<ExecExit>;
  /** What the command used. Call it after `exit`. Absent: the engine does not say it. */
  usage?(): CommandUsage | null;
  resize(cols: number, rows: number): Promise<void>;
  /** Sends a signal to the leader only. */
  signal(signal: number): Promise<void>;
  /**
   * Call it after the leader has ended. True when a process of its tree still lives. False: all output that still comes
   * is the leader's own.
   */
  hasChildren(): Promise<boolean>;
  /**
   * Kills the whole tree with SIGKILL, also background children, new sessions and double forks. Resolves when no
   * process of the tree is left.
   */
  killTree(): Promise<void>;
  /**
   * The next `bytes` bytes of this output are committed. Absent if the engine keeps no output: then it is lost with the
   * worker.
   */
  acknowledge?(output: 'stdout' | 'stderr', bytes: number): void;
  /** The end of the command is committed, so nothing needs to be kept for the next worker. */
  forget?(): void;
}

/** How many bytes of each output of a command are committed. */
export interface CommittedOutput {
  readonly stdout: number;
  readonly stderr: number;
}

export interface BoxMetrics {
  readonly cpuSeconds: number;
  readonly memoryBytes: number;
}

/** Null: the engine does not say it. The network counts are those of the box, without its loopback interface. */
export interface BoxStats extends BoxMetrics {
  /** Of the file system that holds what the box writes, without volumes. */
  readonly diskUsedBytes: number | null;
  readonly diskSizeBytes: number | null;
  readonly processes: number | null;
  readonly networkReceivedBytes: number | null;
  readonly networkSentBytes: number | null;
}

/**
 * The worker makes one call at a time. Only `exec`, `metrics`, `stats`, `close` and the members of handles may run
 * in parallel, while the box runs. Errors are BoxRunError with a code of the catalogue (for example IMAGE_PULL_FAILED,
 * TIMEOUT, RUNTIME_ERROR), and with a hint if there is one.
 */
export interface Driver {
  /** The milliseconds that /bin/true takes with this engine. It is the first estimate for holding answers. */
  readonly shortExecMs: number;
  /** The path in the box of a static busybox. No process in the box can replace it. */
  readonly busyboxPath: string;
  /**
   * The path in the box of the agent's program, which also works on files and ports. It may be missing, or be an
   * earlier one.
   */
  readonly agentPath: string;
  /**
   * False: output is text. Bytes that are no text are lost, and so is output that comes faster than it is read. It can
   * change while the box runs. Then a handle that has only text says so (`isTextOnly`).
   */
  readonly outputIsExact: boolean;
  /** True: a command may have a socket of this process as one of its streams. */
  readonly takesSockets?: boolean;
  /** The way that the next command of the running box takes. Null when the box does not run. */
  readonly agentUse: AgentUse | null;
  /**
   * Makes the image ready on this host: pulls, unpacks and converts it. Until one box has used the image, the
   * supervisor lets only one worker at a time do this. Later calls for the same image may run at once.
   * @throws IMAGE_PULL_FAILED
   */
  prepareImage(progress: ReportProgress, signal: AbortSignal): Promise<void>;
  /**
   * Makes the disk of the box and the engine's own record of it, and starts nothing. `remove` undoes it.
   * @returns the engine's name for the box
   */
  create(progress: ReportProgress, signal: AbortSignal): Promise<{ engineId: string }>;
  /**
   * Starts a box that is created or stopped. Then it can run commands. If this fails, no process of the box is left.
   */
  start(progress: ReportProgress, signal: AbortSignal): Promise<void>;
  /**
   * Takes over the running box of a worker that died. Returns 'stopped' when the box does not run, or cannot be used;
   * then no process of it is left.
   */
  reattach(): Promise<'running' | 'stopped'>;
  /**
   * Starts a command. Rejects only when the engine itself fails. If the box cannot start the command, the handle exits
   * with 126 or 127 and a message on stderr.
   */
  exec(request: ExecRequest): Promise<ExecHandle>;
  /** Returns the ids of commands of the dead worker that may still have processes. */
  foundExecs(): Promise<string[]>;
  /**
   * Returns the ids of commands of the dead worker that `resumeExec` can continue: their output and their end were
   * kept. Absent if the engine keeps nothing.
   */
  heldExecs?(): Promise<string[]>;
  /** Continues a command of the dead worker. Its streams go on behind what is committed. Call it once for a command. */
  resumeExec?(execId: string, committed: CommittedOutput): Promise<ExecHandle>;
  /**
   * Kills the whole trees of the commands that the dead worker started. Commands in `finished` had ended before: their
   * background children live on. Commands in `kept` go on: `resumeExec` follows.
   */
  killStrayExecs(finished: ReadonlySet<string>, kept?: ReadonlySet<string>): Promise<void>;
  /**
   * Asks all processes to end (HUP to those with a terminal, TERM to all), and kills them after `graceMs` milliseconds.
   * The disk stays. Resolves when no process of the box is left.
   */
  stop(graceMs: number): Promise<void>;
  /**
   * Removes the box in any state, also when it is only half made. It can be repeated. After it, no process, mount,
   * cgroup, socket or file of the box is left. Processes are asked to end first, and have `graceMs` milliseconds for it
   * (none if absent).
   */
  remove(graceMs?: number): Promise<void>;
  metrics(): Promise<BoxMetrics>;
  /** Like `metrics`, and more that takes longer to find out. */
  stats(): Promise<BoxStats>;
  /** Releases a running box without stopping it. */
  close(): Promise<void>;
}

export type CreateDriver = (context: DriverContext) => Driver;
