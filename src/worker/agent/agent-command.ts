// One command that the agent of the box has started: its streams, its begin and its end. The agent keeps output until
// the worker has acknowledged it, and the end of the command until the worker says `forget`. Either the worker says
// both, when it has committed them, or this file does when the reader takes the bytes.
import type { Readable, Writable } from 'node:stream';
import type { ExecExit } from '../drivers/driver-contract.ts';
import { AgentInput, AgentOutput, type CommandLine } from './agent-streams.ts';
import type { KnownCommand, News, OutputNumber, ProcessUsage, StartStage } from './frames.ts';

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
  /** True after a new connection: the agent says again what the worker has not acknowledged. */
  #isRepeated = false;
  #known: KnownCommand | null = null;
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

  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** The agent has named the command on a new connection. @throws when that cannot be true */
  noteKnown(known: KnownCommand): void {
    this.#isRepeated = true;
    this.#known = known;
    this.stdout.rewind(known.acknowledged[0]);
    this.stderr.rewind(known.acknowledged[1]);
    this.stdin?.check(known);
  }

  /** The agent gets the order again, because it has not received it. So it has not received any input either. */
  sayInputAgain(): void {
    this.stdin?.sayAgain({ received: 0, consumed: 0, isInputEnded: false });
  }

  /** Says again what the agent has not received on the connection before. */
  sayAgain(): void {
    const known = this.#known;
    if (known === null) return;
    this.#known = null;
    for (const output of [0, 1] as const) this.#output(output).sayAgain(known.acknowledged[output]);
    this.stdin?.sayAgain(known);
  }

  /** @throws when the agent says something that cannot be true */
  receive(news: News): void {
    switch (news.kind) {
      case 'started':
        if (this.#hasBegun && this.#isRepeated) return;
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
        if (this.#hasExited && this.#isRepeated) return;
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
