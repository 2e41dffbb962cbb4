// One command in the box, from its row to its exit event. This file alone changes the state of the command. The order
// is always the same: first the row, then every output event, then the exit event together with the finished row.
import type { Exec, ExecUsage } from '../../shared/api.ts';
import { timestamp, withDeadline } from '../../shared/waiting/clock.ts';
import type { ExecOrder, ResumedExec } from '../../shared/contracts/worker.ts';
import { BoxRunError, errorText } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import { newId } from '../../shared/ids.ts';
import {
  exitEventData,
  execTable,
  finishedStatus,
  isFinished,
  type ExecCause,
  type ExecOutcome,
  type ExecState,
} from '../../shared/lifecycle/exec.ts';
import { step } from '../../shared/lifecycle/machine.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { CommitQueue } from '../output/commit-queue.ts';
import type { Driver, ExecExit, ExecHandle } from '../drivers/driver-contract.ts';
import { createKeptOutput } from '../output/kept-output.ts';
import { createOutputBuffer, type OutputBuffer, type OutputStream } from '../output/output-buffer.ts';
import { readOutput, type OutputReader } from '../output/output-reader.ts';

export interface ExecDeps {
  readonly driver: Pick<Driver, 'exec' | 'resumeExec'>;
  readonly queue: CommitQueue;
  readonly log: Logger;
  readonly boxId: string;
  readonly generation: number;
  /** Bytes of stdout and stderr together. Later output is dropped, and an event says so. */
  readonly outputBytesMax: number;
  /** The command still runs limits.killTimeoutMs after its kill. */
  readonly onUnkillable: (reason: string) => void;
}

/** Why a command ends before its own time. The reason decides its final status and its error message. */
export type KillReason =
  | { readonly kind: 'canceled' }
  | { readonly kind: 'timeout'; readonly timeoutMs: number }
  | { readonly kind: 'box'; readonly message: string };

export interface RunningExec {
  readonly id: string;
  /** The row of the command as clients see it now. */
  exec(): Exec;
  /**
   * Resolves when the row is committed and the command runs (or has ended already). Rejects when the engine cannot
   * start the command.
   */
  readonly started: Promise<void>;
  /** Resolves when the leader of the command has ended. Output may still follow. Never rejects. */
  readonly exited: Promise<void>;
  /**
   * Resolves when the exit event is in the queue: no change follows it. The changes may not be committed yet. Never
   * rejects.
   */
  readonly ended: Promise<void>;
  /** Resolves when the exit event and the finished row are committed. Never rejects. */
  readonly finished: Promise<void>;
  /** The driver's handle of the command, once it has started. Rejects when the engine cannot start the command. */
  handle(): Promise<ExecHandle>;
  /**
   * Kills the whole tree of the command. Resolves when its end is committed.
   * @throws TIMEOUT when the tree still lives after limits.killTimeoutMs
   */
  kill(reason: KillReason): Promise<void>;
  /** The command will end because the box is stopped or removed. From now on, every end of it has this reason. */
  expectEnd(reason: KillReason): void;
  /** Ends the command as failed at once, because the engine has ended or no longer reports. */
  lose(reason: string): void;
}

/** Starts a command: adds its row to the queue, and asks the driver to start it at the same time. */
export function createExec(deps: ExecDeps, order: ExecOrder): RunningExec {
  return new OwnedExec(deps, order, null);
}

/** Continues a command of an earlier worker behind what is committed of it. */
export function resumeExec(deps: ExecDeps, resumed: ResumedExec): RunningExec {
  const { cmd, env, workdir, timeout_ms: timeoutMs, detachable = false } = resumed.exec;
  return new OwnedExec(deps, { cmd, env, workdir, timeoutMs, detachable }, resumed);
}

class OwnedExec implements RunningExec {
  readonly started: Promise<void>;
  readonly exited: Promise<void>;
  readonly ended: Promise<void>;
  readonly finished: Promise<void>;
  readonly #deps: ExecDeps;
  readonly #order: ExecOrder;
  readonly #row: Exec;
  readonly #log: Logger;
  readonly #output: OutputBuffer;
  readonly #starting: Promise<ExecHandle>;
  #announceExited: () => void = () => undefined;
  #announceEnded: () => void = () => undefined;
  #announceFinished: () => void = () => undefined;
  #timeoutTimer: NodeJS.Timeout | undefined;
  #state: ExecState = 'starting';
  #handle: ExecHandle | null = null;
  #killReason: KillReason | null = null;
  #killing: Promise<void> | null = null;
  #reader: OutputReader | null = null;

  constructor(deps: ExecDeps, order: ExecOrder, resumed: ResumedExec | null) {
    const id = resumed?.exec.id ?? newId('exec');
    this.#deps = deps;
    this.#order = order;
    this.#log = deps.log.child({
      execId: id,
      ...(order.requestId === undefined ? {} : { requestId: order.requestId }),
    });
    this.#row = resumed?.exec ?? {
      id,
      box_id: deps.boxId,
      status: 'running',
      cmd: order.cmd,
      env: order.env,
      workdir: order.workdir,
      timeout_ms: order.timeoutMs,
      exit_code: null,
      error_message: null,
      created_at: timestamp(),
      finished_at: null,
      ...(order.detachable === true ? { detachable: true } : {}),
    };
    this.exited = new Promise<void>((resolve) => {
      this.#announceExited = resolve;
    });
    this.ended = new Promise<void>((resolve) => {
      this.#announceEnded = resolve;
    });
    this.finished = new Promise<void>((resolve) => {
      this.#announceFinished = resolve;
    });
    this.#output = this.#createBuffer(resumed);
    if (resumed === null) {
      const exec = { ...this.#row, generation: deps.generation, internal: order.internal ?? null };
      deps.queue.push({ op: 'insert', exec, ...(order.claim === undefined ? {} : { claim: order.claim }) });
      faultPoint('worker.exec.queued');
    }
    const committed = resumed === null ? deps.queue.committed() : Promise.resolve();
    this.#starting = resumed === null ? this.#startCommand() : this.#resumeCommand(resumed);
    this.started = this.#start(committed);
    // A caller that waits for `started` gets the error. Without this line, the error would end the worker when no
    // caller waits.
    this.started.catch(() => undefined);
    const { timeoutMs } = order;
    if (timeoutMs !== null) {
      const pastMs = resumed === null ? 0 : Date.now() - Date.parse(resumed.exec.created_at);
      this.#timeoutTimer = setTimeout(
        () => {
          this.kill({ kind: 'timeout', timeoutMs }).catch(this.#logFailedKill);
        },
        Math.max(0, timeoutMs - pastMs),
      );
    }
  }

  get id(): string {
    return this.#row.id;
  }

  exec(): Exec {
    return { ...this.#row };
  }

  handle(): Promise<ExecHandle> {
    return this.#starting;
  }

  async kill(reason: KillReason): Promise<void> {
    if (isFinished(this.#state)) {
      await this.finished;
      return;
    }
    this.#killReason ??= reason;
    if (this.#state !== 'killing') this.#transition('kill-asked');
    if (this.#handle !== null) await this.#killTree(this.#handle);
    await this.finished;
  }

  expectEnd(reason: KillReason): void {
    this.#killReason ??= reason;
  }

  lose(reason: string): void {
    this.#end('engine-lost', { exitCode: null, errorMessage: reason, canceled: false });
  }

  #transition(cause: ExecCause): void {
    const next = step(execTable, this.#state, cause);
    if (next === null) throw new Error(`exec ${this.id}: ${cause} in state ${this.#state}`);
    this.#log.debug({ from: this.#state, to: next, cause }, 'exec changes state');
    this.#state = next;
  }

  #end(cause: ExecCause, outcome: ExecOutcome, usage: ExecUsage | null = null): void {
    if (isFinished(this.#state)) return;
    const { queue } = this.#deps;
    this.#transition(cause);
    clearTimeout(this.#timeoutTimer);
    this.#reader?.discard();
    const status = finishedStatus(outcome);
    const at = timestamp();
    this.#output.end((droppedBytes) => exitEventData(outcome, droppedBytes));
    const { exitCode, errorMessage } = outcome;
    queue.push({ op: 'finish', execId: this.id, status, exitCode, errorMessage, usage, at }, () =>
      this.#handle?.forget?.(),
    );
    faultPoint('worker.exec.ended');
    this.#announceExited();
    this.#announceEnded();
    void queue.committed().then(() => {
      Object.assign(this.#row, { status, exit_code: exitCode, error_message: errorMessage, finished_at: at, usage });
      this.#announceFinished();
    });
  }

  async #startCommand(): Promise<ExecHandle> {
    const { cmd, workdir, env, user = null, tty = null, stdin = false } = this.#order;
    return this.#deps.driver.exec({
      ...{ execId: this.id, cmd, env: env ?? {}, workdir, user, tty, stdin },
      acknowledges: true,
    });
  }

  async #resumeCommand({ stdoutBytes, stderrBytes }: ResumedExec): Promise<ExecHandle> {
    const { resumeExec: resume } = this.#deps.driver;
    if (resume === undefined) throw new Error('this engine keeps no commands');
    return resume(this.id, { stdout: stdoutBytes, stderr: stderrBytes });
  }

  #createBuffer(resumed: ResumedExec | null): OutputBuffer {
    const { queue, outputBytesMax } = this.#deps;
    const acknowledge = (stream: OutputStream, byteCount: number) => {
      if (byteCount > 0) this.#handle?.acknowledge?.(stream, byteCount);
    };
    const kept =
      this.#order.detachable === true
        ? createKeptOutput(resumed?.nextSeq ?? 0, (beforeSeq) => {
            queue.push({ op: 'trim', execId: this.id, beforeSeq });
          })
        : null;
    const earlier =
      resumed === null ? undefined : { nextSeq: resumed.nextSeq, bytes: resumed.stdoutBytes + resumed.stderrBytes };
    return createOutputBuffer({
      bytesMax: kept === null ? outputBytesMax : Infinity,
      earlier,
      emit: (event, byteCount) => {
        queue.push({ op: 'event', execId: this.id, event, at: timestamp() }, () => {
          if (event.stream !== null) acknowledge(event.stream, byteCount);
        });
        if (event.type === 'log') kept?.add(event.seq, event.data.length);
      },
      // All bytes before them are in the queue.
      onDropped: (stream, byteCount) => {
        void queue.committed().then(() => {
          acknowledge(stream, byteCount);
        });
      },
    });
  }

  async #start(committed: Promise<void>): Promise<void> {
    const starting = this.#starting;
    let handle: ExecHandle;
    try {
      handle = await withDeadline(starting, limits.execStartTimeoutMs, 'starting the command');
      this.#handle = handle;
      faultPoint('worker.exec.started');
    } catch (error) {
      // The engine may still start the command after the deadline. Then the command is killed at once.
      void starting.then((late) => late.killTree()).catch(() => undefined);
      const errorMessage = errorText(error);
      this.#end('start-failed', { exitCode: null, errorMessage, canceled: this.#killReason?.kind === 'canceled' });
      throw error;
    }
    if (!isFinished(this.#state)) {
      if (this.#state === 'starting') this.#transition('started');
      else this.#killTree(handle).catch(this.#logFailedKill);
      void this.#follow(handle);
    }
    await committed;
  }

  async #follow(handle: ExecHandle): Promise<void> {
    const { queue } = this.#deps;
    // Writing to a command that no longer reads its input is an error of the stream. Without a listener, this error
    // would end the worker, and with it all commands of the box.
    handle.stdin?.on('error', () => undefined);
    const reader = readOutput(handle, { output: this.#output, queue, log: this.#log });
    this.#reader = reader;
    const exit = await handle.exit;
    this.#announceExited();
    faultPoint('worker.exec.exited');
    await reader.drain(async () => 'lost' in exit || (await handle.hasChildren()));
    if (this.#killing !== null) await this.#killing.catch(() => undefined);
    this.#end('lost' in exit ? 'engine-lost' : 'exited', outcomeOf(exit, this.#killReason), usageOf(exit, handle));
  }

  async #killTree(handle: ExecHandle): Promise<void> {
    this.#killing ??= withDeadline(handle.killTree(), limits.killTimeoutMs, 'killing the command').catch(
      (error: unknown) => {
        this.#killing = null; // So a client can ask for the kill again.
        const resists = error instanceof BoxRunError && error.code === 'TIMEOUT' && !isFinished(this.#state);
        if (resists)
          this.#deps.onUnkillable(`command ${this.id} could not be killed within ${limits.killTimeoutMs} ms`);
        throw error;
      },
    );
    await this.#killing;
  }

  readonly #logFailedKill = (error: unknown): void => {
    this.#log.error({ err: error }, 'a command could not be killed');
  };
}

function usageOf(exit: ExecExit, handle: ExecHandle): ExecUsage | null {
  const usage = 'lost' in exit ? null : (handle.usage?.() ?? null);
  if (usage === null) return null;
  const { cpuSeconds, peakMemoryBytes, oomKills, throttledSeconds } = usage;
  return {
    cpu_seconds: cpuSeconds,
    peak_memory_bytes: peakMemoryBytes,
    oom_kills: oomKills,
    throttled_seconds: throttledSeconds,
  };
}

/** The result of the command: from the exit of its leader, and from the reason of its kill if it was killed. */
function outcomeOf(exit: ExecExit, killReason: KillReason | null): ExecOutcome {
  const exitCode = 'exitCode' in exit ? exit.exitCode : null;
  const lost = 'lost' in exit ? exit.lost : null;
  if (killReason === null) {
    const memory = ('exitCode' in exit ? exit.outOfMemory : null) ?? null;
    // The command succeeded, so the lack of memory is only a warning: an error message would make the command failed.
    if (exitCode === 0 && memory !== null) return { exitCode, errorMessage: null, canceled: false, warning: memory };
    return { exitCode, errorMessage: lost ?? memory, canceled: false };
  }
  if (killReason.kind === 'canceled') return { exitCode, errorMessage: 'canceled', canceled: true };
  const errorMessage =
    killReason.kind === 'timeout' ? `timed out after ${killReason.timeoutMs} ms` : killReason.message;
  return { exitCode, errorMessage, canceled: false };
}
