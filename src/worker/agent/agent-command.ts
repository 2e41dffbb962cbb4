// One command that the agent of the box has started: its streams, its begin and its end. The agent keeps output until
// the worker has acknowledged it, and the end of the command until the worker says `forget`. Either the worker says
// both, when it has committed them, or this file does when the reader takes the bytes.
import { Readable, Writable } from 'node:stream';
import type { ExecExit } from '../drivers/driver-contract.ts';
import {
  inputBytesMax,
  type KnownCommand,
  type News,
  type OutputNumber,
  type ProcessUsage,
  type StartStage,
} from './frames.ts';

/** The agent reports that the command has not begun. `stage` and `errno` say why. */
export class StartRefused extends Error {
  readonly stage: StartStage;
  readonly errno: number;

  constructor(stage: StartStage, errno: number) {
    super(`the agent could not start it (${stage}, errno ${errno})`);
    this.stage = stage;
    this.errno = errno;
  }
}

/** The connection ended before the agent reported the begin of the command, so no one knows whether it begins. */
export class AgentGone extends Error {}

export interface AgentCommand {
  /** Resolves when the program runs. Rejects with StartRefused or AgentGone. */
  readonly begun: Promise<void>;
  /** Resolves with the end of the leader. Never rejects. */
  readonly exit: Promise<ExecExit>;
  /** Known after `exit`. Null: the agent does not say it. */
  readonly usage: ProcessUsage | null;
  readonly stdout: Readable;
  /** A command with a terminal has no bytes here. */
  readonly stderr: Readable;
  readonly stdin: Writable | null;
  /** Sends a signal to the leader, if it has not ended. */
  signal(signal: number): void;
  /** Changes the size of the terminal. */
  resize(cols: number, rows: number): void;
  /** The next `bytes` bytes of this output are committed. Only for a command whose worker acknowledges. */
  acknowledge(output: OutputNumber, bytes: number): void;
  /** The worker needs nothing more of the command. Output that still comes is dropped. */
  forget(): void;
  /** True for a command of an earlier worker that reads its input from a pipe, and may end with the input. */
  readonly endsWithInput: boolean;
  /**
   * Continues a command of an earlier worker.
   * @param committed how many bytes of each output that worker has committed
   */
  resume(committed: readonly [number, number]): void;
}

export interface CommandOptions {
  readonly hasInput: boolean;
  /** True: the caller says what is committed, and when the command may be forgotten. */
  readonly acknowledges: boolean;
  /** For a command of an earlier worker. Its output waits for `resume`. */
  readonly known: KnownCommand | null;
}

/** What a command tells the agent. Nothing is sent after `forget`. */
export interface CommandLine {
  signal(signal: number): void;
  resize(rows: number, cols: number): void;
  input(bytes: Uint8Array): void;
  endInput(): void;
  acknowledge(output: OutputNumber, offset: number): void;
  /** The worker has everything of the command. */
  forget(): void;
}

export class CommandOfAgent implements AgentCommand {
  readonly begun: Promise<void>;
  readonly exit: Promise<ExecExit>;
  readonly stdout: AgentOutput;
  readonly stderr: AgentOutput;
  readonly stdin: AgentInput | null;
  readonly endsWithInput: boolean;
  usage: ProcessUsage | null = null;
  readonly #line: CommandLine;
  readonly #acknowledges: boolean;
  #hasBegun = false;
  #hasExited = false;
  #isForgotten = false;
  #isWanted = true;
  #resolveBegun: () => void = () => undefined;
  #rejectBegun: (error: Error) => void = () => undefined;
  #resolveExit: (exit: ExecExit) => void = () => undefined;

  constructor(line: CommandLine, { hasInput, acknowledges, known }: CommandOptions) {
    this.#line = line;
    this.#acknowledges = acknowledges;
    this.endsWithInput = known !== null && known.hasInput && !known.isTerminal;
    this.begun = new Promise((resolve, reject) => {
      this.#resolveBegun = resolve;
      this.#rejectBegun = reject;
    });
    this.begun.catch(() => undefined); // The caller handles the error.
    this.exit = new Promise((resolve) => {
      this.#resolveExit = resolve;
    });
    const output = (number: OutputNumber) =>
      new AgentOutput(
        (offset) => {
          line.acknowledge(number, offset);
        },
        { acknowledges, known: known?.acknowledged[number] ?? null },
      );
    this.stdout = output(0);
    this.stderr = output(1);
    this.stdin = hasInput ? new AgentInput(line, known) : null;
  }

  signal(signal: number): void {
    this.#line.signal(signal);
  }

  resize(cols: number, rows: number): void {
    this.#line.resize(rows, cols);
  }

  acknowledge(output: OutputNumber, bytes: number): void {
    this.#output(output).acknowledge(bytes);
  }

  forget(): void {
    this.#isWanted = false;
    for (const output of [this.stdout, this.stderr]) output.destroy();
    this.#forgetWhenComplete();
  }

  resume(committed: readonly [number, number]): void {
    this.stdout.resumeAt(committed[0]);
    this.stderr.resumeAt(committed[1]);
  }

  /** @throws when the agent says something that cannot be true */
  receive(news: News): void {
    switch (news.kind) {
      case 'started':
        if (this.#hasBegun) throw new Error('the agent said twice that a command has begun');
        this.#hasBegun = true;
        this.#resolveBegun();
        return;
      case 'failed':
        if (this.#hasBegun) throw new Error('the agent said that a command which had begun has not');
        this.#rejectBegun(new StartRefused(news.stage, news.errno));
        this.#end({ lost: 'it did not begin' });
        this.#isForgotten = true;
        this.#line.forget();
        return;
      case 'output':
        this.#output(news.output).receive(news.offset, news.bytes);
        return;
      case 'end':
        this.#output(news.output).finish(news.offset);
        this.#forgetWhenComplete();
        return;
      case 'exited':
        if (!this.#hasBegun || this.#hasExited) throw new Error('the agent reported an impossible end of a command');
        this.#hasExited = true;
        this.usage = news.usage ?? null;
        this.#resolveExit({ exitCode: news.exitCode });
        this.#forgetWhenComplete();
        return;
      case 'room':
        this.stdin?.setConsumed(news.consumed, news.isClosed);
        return;
      case 'hello':
      case 'known':
      case 'pong':
        throw new Error(`the agent said ${news.kind} of a command`);
    }
  }

  /** The connection to the agent has ended. */
  lose(reason: string): void {
    this.#rejectBegun(new AgentGone(reason));
    this.#end({ lost: reason });
  }

  #output(output: OutputNumber): AgentOutput {
    return output === 0 ? this.stdout : this.stderr;
  }

  #end(exit: ExecExit): void {
    this.#resolveExit(exit);
    this.stdout.lose();
    this.stderr.lose();
    this.stdin?.lose();
  }

  #forgetWhenComplete(): void {
    if (this.#isForgotten || !this.#hasExited || !this.stdout.isComplete || !this.stderr.isComplete) return;
    this.stdin?.lose();
    if (this.#acknowledges && this.#isWanted) return;
    this.#isForgotten = true;
    this.#line.forget();
  }
}

interface OutputOptions {
  readonly acknowledges: boolean;
  /** For a command of an earlier worker: the agent sends its output from this offset on. */
  readonly known: number | null;
}

/** One output of a command. If it is destroyed, further bytes are dropped, so that background children can write. */
class AgentOutput extends Readable {
  readonly #sendAcknowledgement: (offset: number) => void;
  readonly #acknowledges: boolean;
  #received: number;
  #acknowledged: number;
  /** The offset from which the reader gets bytes. Null: `resumeAt` will say it. */
  #from: number | null;
  /** What came before `resumeAt`: at most what the agent sends without an acknowledgement. */
  #early: Buffer[] = [];
  #isHeld = false;
  isComplete = false;

  constructor(sendAcknowledgement: (offset: number) => void, { acknowledges, known }: OutputOptions) {
    super();
    this.#sendAcknowledgement = sendAcknowledgement;
    this.#acknowledges = acknowledges;
    this.#received = this.#acknowledged = known ?? 0;
    this.#from = known === null ? 0 : null;
  }

  receive(offset: number, bytes: Buffer): void {
    if (this.isComplete || offset !== this.#received) throw new Error(`the agent sent output from ${offset}`);
    this.#received += bytes.length;
    if (this.destroyed) this.#acknowledgeAll();
    else if (this.#from === null) this.#early.push(bytes);
    else this.#give(bytes, this.#received);
  }

  /** The reader gets what comes after this offset; what comes before is committed. */
  resumeAt(committed: number): void {
    if (this.#from !== null) return;
    this.#from = Math.max(committed, this.#acknowledged);
    const early = this.#early;
    this.#early = [];
    let end = this.#acknowledged;
    for (const piece of early) {
      end += piece.length;
      this.#give(piece, end);
    }
    if (this.isComplete) this.push(null);
  }

  acknowledge(bytes: number): void {
    this.#acknowledged += bytes;
    if (!this.isComplete && !this.destroyed) this.#sendAcknowledgement(this.#acknowledged);
  }

  finish(offset: number): void {
    if (this.isComplete || offset !== this.#received) throw new Error(`the agent ended output at ${offset}`);
    this.lose();
  }

  lose(): void {
    if (this.isComplete) return;
    this.isComplete = true;
    if (!this.destroyed && this.#from !== null) this.push(null);
  }

  override _read(): void {
    this.#release();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#early = [];
    if (!this.isComplete) this.#acknowledgeAll();
    done(error);
  }

  /** Gives the reader the bytes before the offset `end`, without those that an earlier worker has committed. */
  #give(all: Buffer, end: number): void {
    const from = this.#from ?? 0;
    const begin = end - all.length;
    const bytes = from > begin ? all.subarray(Math.min(from - begin, all.length)) : all;
    const committed = all.length - bytes.length;
    if (committed > 0) this.acknowledge(committed);
    if (bytes.length === 0) return;
    const hasRoom = this.push(bytes);
    // Bytes are held back from the acknowledgement while the reader is slow: then the agent reads no more, either.
    if (this.#acknowledges) return;
    if (hasRoom) this.#acknowledgeAll();
    else this.#isHeld = true;
  }

  #release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    if (!this.isComplete) this.#acknowledgeAll();
  }

  #acknowledgeAll(): void {
    if (this.#acknowledged === this.#received) return;
    this.#acknowledged = this.#received;
    this.#sendAcknowledgement(this.#acknowledged);
  }
}

/** The input of a command. It has at most `inputBytesMax` bytes under way that the command has not read. */
class AgentInput extends Writable {
  readonly #line: CommandLine;
  #sent = 0;
  #consumed = 0;
  #isEnded = false;
  #waiting: { bytes: Uint8Array; done: (error?: Error | null) => void } | null = null;

  constructor(line: CommandLine, known: KnownCommand | null) {
    super();
    this.#line = line;
    this.#sent = known?.received ?? 0;
    this.#consumed = known?.consumed ?? 0;
    this.#isEnded = known?.isInputEnded ?? false;
  }

  override _write(bytes: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    this.#waiting = { bytes, done };
    this.#sendWaiting();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#sendEnd();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#sendEnd();
    done(error);
  }

  /** @param isClosed the command reads no more */
  setConsumed(consumed: number, isClosed: boolean): void {
    if (consumed < this.#consumed || consumed > this.#sent)
      throw new Error(`the agent took ${consumed} bytes of input`);
    this.#consumed = consumed;
    if (isClosed && !this.#isEnded) {
      this.#isEnded = true;
      this.destroy(Object.assign(new Error('the command reads no more input'), { code: 'EPIPE' }));
    }
    this.#sendWaiting();
  }

  /** The command has ended, or the agent. */
  lose(): void {
    this.#isEnded = true;
    this.destroy();
  }

  #sendWaiting(): void {
    const waiting = this.#waiting;
    if (waiting === null || this.#isEnded) return;
    const room = inputBytesMax - (this.#sent - this.#consumed);
    const part = waiting.bytes.subarray(0, room);
    if (part.length > 0) {
      this.#line.input(part);
      this.#sent += part.length;
    }
    waiting.bytes = waiting.bytes.subarray(part.length);
    if (waiting.bytes.length > 0) return; // setConsumed goes on.
    this.#waiting = null;
    waiting.done();
  }

  #sendEnd(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#line.endInput();
  }
}
