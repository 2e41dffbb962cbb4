// The connection to one runner: it sends orders, receives reports, and matches each report to its command. A report
// that is impossible (unknown command, second begin) closes the connection. When the connection ends, all commands
// without a reported end are lost.
import type { Duplex } from 'node:stream';
import { errorText } from '../../../../shared/errors.ts';
import { limits } from '../../../../shared/limits.ts';
import type { ExecExit } from '../../driver-contract.ts';
import {
  createReportReader,
  encodePing,
  encodeRun,
  encodeSignal,
  type Report,
  type RunOrder,
  type StartStage,
} from './frames.ts';

/** The runner reports that the command has not begun. `stage` and `errno` say why. */
export class StartRefused extends Error {
  readonly stage: StartStage;
  readonly errno: number;

  constructor(stage: StartStage, errno: number) {
    super(`the runner could not start it (${stage}, errno ${errno})`);
    this.stage = stage;
    this.errno = errno;
  }
}

/**
 * The connection ended before the runner reported the begin of the command, so no report will say whether it begins.
 */
export class RunnerGone extends Error {}

export interface RunnerCommand {
  /** Resolves when the command is in its group and its streams are open. Rejects with StartRefused or RunnerGone. */
  readonly begun: Promise<void>;
  /** Resolves with the end of the leader. Never rejects. */
  readonly exit: Promise<ExecExit>;
  /** Sends a signal to the leader, if it has not ended. */
  signal(signal: number): void;
}

export interface RunnerChannel {
  readonly ready: Promise<void>;
  /** Resolves with the reason. */
  readonly closed: Promise<string>;
  /** Starts a command. Returns null if the order is too long for the runner, or the connection is closed or closing. */
  run(order: RunOrder): RunnerCommand | null;
  close(reason: string): void;
  /** Takes no new command, and closes after the end of the last one. */
  closeWhenIdle(): void;
}

interface Pending {
  begun: boolean;
  readonly resolveBegun: () => void;
  readonly rejectBegun: (error: Error) => void;
  readonly resolveExit: (exit: ExecExit) => void;
}

export function createChannel(socket: Duplex): RunnerChannel {
  return new OpenChannel(socket);
}

class OpenChannel implements RunnerChannel {
  readonly ready: Promise<void>;
  readonly closed: Promise<string>;
  readonly #socket: Duplex;
  readonly #commands = new Map<number, Pending>();
  #lastId = 0;
  #isClosed = false;
  #closesWhenIdle = false;
  #unanswered = 0;
  #timer: NodeJS.Timeout | null = null;
  #tellReady: () => void = () => undefined;
  #tellClosed: (reason: string) => void = () => undefined;

  constructor(socket: Duplex) {
    this.#socket = socket;
    this.ready = new Promise((resolve) => {
      this.#tellReady = resolve;
    });
    this.closed = new Promise((resolve) => {
      this.#tellClosed = resolve;
    });
    const read = createReportReader();
    socket.on('data', (piece: Buffer) => {
      try {
        for (const report of read(piece)) this.#handleReport(report);
      } catch (error) {
        this.close(errorText(error));
      }
    });
    socket.on('error', () => undefined); // 'close' follows.
    socket.on('close', () => {
      this.close('the runner in the box ended');
    });
    socket.on('end', () => {
      this.close('the runner in the box ended');
    });
  }

  run(order: RunOrder): RunnerCommand | null {
    if (this.#isClosed || this.#closesWhenIdle) return null;
    const id = (this.#lastId += 1);
    const frame = encodeRun(id, order);
    if (frame === null) return null;
    let pending: Pending | undefined;
    let resolveExit: (exit: ExecExit) => void = () => undefined;
    const exit = new Promise<ExecExit>((resolve) => {
      resolveExit = resolve;
    });
    const begun = new Promise<void>((resolve, reject) => {
      pending = { begun: false, resolveBegun: resolve, rejectBegun: reject, resolveExit };
    });
    begun.catch(() => undefined); // The caller handles the error.
    this.#commands.set(id, pending as Pending);
    this.#startPings();
    this.#socket.write(frame);
    return {
      begun,
      exit,
      signal: (signal) => {
        if (!this.#isClosed) this.#socket.write(encodeSignal(id, signal));
      },
    };
  }

  close(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#socket.destroy();
    for (const pending of this.#commands.values()) {
      if (!pending.begun) pending.rejectBegun(new RunnerGone(reason));
      pending.resolveExit({ lost: reason });
    }
    this.#commands.clear();
    this.#tellClosed(reason);
  }

  closeWhenIdle(): void {
    this.#closesWhenIdle = true;
    if (this.#commands.size === 0) this.close('it is not needed any more');
  }

  #handleReport(report: Report): void {
    if (this.#isClosed) return;
    this.#unanswered = 0;
    if (report.kind === 'pong') return;
    if (report.kind === 'ready') {
      this.#tellReady();
      return;
    }
    const pending = this.#commands.get(report.id);
    if (pending === undefined || (report.kind !== 'exited' && pending.begun)) {
      throw new Error(`the runner in the box said ${report.kind} of a command for which this is impossible`);
    }
    if (report.kind === 'started') {
      pending.begun = true;
      pending.resolveBegun();
      return;
    }
    this.#commands.delete(report.id);
    if (report.kind === 'failed') pending.rejectBegun(new StartRefused(report.stage, report.errno));
    // It ended without having begun: it was killed before that.
    else if (!pending.begun) pending.rejectBegun(new StartRefused('killed', 0));
    pending.resolveExit(report.kind === 'exited' ? { exitCode: report.exitCode } : { lost: 'it did not begin' });
    this.#stopPingsWhenIdle();
  }

  /** Without pings the worker would not notice that the runner is stopped (SIGSTOP) or gets no CPU time. */
  #startPings(): void {
    if (this.#timer !== null) return;
    this.#unanswered = 0;
    this.#timer = setInterval(() => {
      this.#unanswered += 1;
      if (this.#unanswered > limits.runnerPingsUnansweredMax) this.close('the runner in the box did not answer');
      else this.#socket.write(encodePing((this.#lastId += 1)));
    }, limits.runnerPingMs);
    this.#timer.unref();
  }

  #stopPingsWhenIdle(): void {
    if (this.#commands.size > 0) return;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    if (this.#closesWhenIdle) this.close('it is not needed any more');
  }
}
