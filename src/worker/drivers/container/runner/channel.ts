// The line to one runner: orders out, reports in, and which command each report is about. It believes a report only
// where it can be true. With the end of the line, which is noticed at once, every command that it has not reported as
// ended is lost. Made by runner.ts.
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

/** The runner says that the command has not begun, and why. */
export class StartRefused extends Error {
  readonly stage: StartStage;
  readonly errno: number;

  constructor(stage: StartStage, errno: number) {
    super(`the runner could not start it (${stage}, errno ${errno})`);
    this.stage = stage;
    this.errno = errno;
  }
}

/** The line ended before the runner had said that the command began; what was on its way was read before that. */
export class RunnerGone extends Error {}

export interface RunnerCommand {
  /** Resolves when the command's streams are open and it is in its group; rejects with StartRefused or RunnerGone. */
  readonly begun: Promise<void>;
  /** The leader's end. Never rejects. */
  readonly exit: Promise<ExecExit>;
  /** To the leader, if it has not ended. */
  signal(signal: number): void;
}

export interface RunnerChannel {
  readonly ready: Promise<void>;
  /** With the reason. */
  readonly closed: Promise<string>;
  /** Null where the runner cannot take it: too long, or the line has ended. */
  run(order: RunOrder): RunnerCommand | null;
  close(reason: string): void;
  /** Once no command is left; takes no new one. */
  closeWhenIdle(): void;
}

interface Pending {
  begun: boolean;
  readonly tellBegun: () => void;
  readonly refuse: (error: Error) => void;
  readonly end: (exit: ExecExit) => void;
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
  #isOver = false;
  #isLeaving = false;
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
        for (const report of read(piece)) this.#take(report);
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
    if (this.#isOver || this.#isLeaving) return null;
    const id = (this.#lastId += 1);
    const frame = encodeRun(id, order);
    if (frame === null) return null;
    let pending: Pending | undefined;
    let end: (exit: ExecExit) => void = () => undefined;
    const exit = new Promise<ExecExit>((resolve) => {
      end = resolve;
    });
    const begun = new Promise<void>((resolve, reject) => {
      pending = { begun: false, tellBegun: resolve, refuse: reject, end };
    });
    begun.catch(() => undefined); // Whoever waits for it sees it.
    this.#commands.set(id, pending as Pending);
    this.#watch();
    this.#socket.write(frame);
    return {
      begun,
      exit,
      signal: (signal) => {
        if (!this.#isOver) this.#socket.write(encodeSignal(id, signal));
      },
    };
  }

  close(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#socket.destroy();
    for (const pending of this.#commands.values()) {
      if (!pending.begun) pending.refuse(new RunnerGone(reason));
      pending.end({ lost: reason });
    }
    this.#commands.clear();
    this.#tellClosed(reason);
  }

  closeWhenIdle(): void {
    this.#isLeaving = true;
    if (this.#commands.size === 0) this.close('it is not needed any more');
  }

  #take(report: Report): void {
    if (this.#isOver) return;
    this.#unanswered = 0;
    if (report.kind === 'pong') return;
    if (report.kind === 'ready') {
      this.#tellReady();
      return;
    }
    const pending = this.#commands.get(report.id);
    if (pending === undefined || (report.kind !== 'exited' && pending.begun)) {
      throw new Error(`the runner in the box said ${report.kind} of a command of which that cannot be`);
    }
    if (report.kind === 'started') {
      pending.begun = true;
      pending.tellBegun();
      return;
    }
    this.#commands.delete(report.id);
    if (report.kind === 'failed') pending.refuse(new StartRefused(report.stage, report.errno));
    else if (!pending.begun) pending.refuse(new StartRefused('killed', 0));
    pending.end(report.kind === 'exited' ? { exitCode: report.exitCode } : { lost: 'it did not begin' });
    this.#rest();
  }

  /** A runner that is stopped, or starved by what runs in its box, would not be missed otherwise. */
  #watch(): void {
    if (this.#timer !== null) return;
    this.#unanswered = 0;
    this.#timer = setInterval(() => {
      this.#unanswered += 1;
      if (this.#unanswered > limits.runnerPingsUnansweredMax) this.close('the runner in the box did not answer');
      else this.#socket.write(encodePing((this.#lastId += 1)));
    }, limits.runnerPingMs);
    this.#timer.unref();
  }

  #rest(): void {
    if (this.#commands.size > 0) return;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    if (this.#isLeaving) this.close('it is not needed any more');
  }
}
