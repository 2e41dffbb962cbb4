// The output and the input of one command of the agent, as streams. They count bytes by their offsets. After a new
// connection the agent sends again what is not acknowledged: the reader gets every byte once.
import { Readable, Writable } from 'node:stream';
import { inputBytesMax, type KnownCommand, type OutputNumber } from './frames.ts';

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

interface OutputOptions {
  readonly acknowledges: boolean;
  /** For a command of an earlier worker: the agent sends its output from this offset on. */
  readonly known: number | null;
}

/** One output of a command. If it is destroyed, further bytes are dropped, so that background children can write. */
export class AgentOutput extends Readable {
  readonly #sendAcknowledgement: (offset: number) => void;
  readonly #acknowledges: boolean;
  #received: number;
  /** The offset of the agent's next piece. On a new connection it can be lower than what was received. */
  #expected: number;
  #acknowledged: number;
  /** The offset from which the reader gets bytes. Null: `resumeAt` will say it. */
  #from: number | null;
  /** What came before `resumeAt`: at most what the agent sends without an acknowledgement. */
  #early: Buffer[] = [];
  #isHeld = false;
  #isRepeated = false;
  isComplete = false;

  constructor(sendAcknowledgement: (offset: number) => void, { acknowledges, known }: OutputOptions) {
    super();
    this.#sendAcknowledgement = sendAcknowledgement;
    this.#acknowledges = acknowledges;
    this.#expected = this.#received = this.#acknowledged = known ?? 0;
    this.#from = known === null ? 0 : null;
  }

  receive(offset: number, all: Buffer): void {
    const isKnown = this.#expected < this.#received;
    if ((this.isComplete && !isKnown) || offset !== this.#expected)
      throw new Error(`the agent sent output from ${offset}`);
    this.#expected += all.length;
    const bytes = all.subarray(Math.min(all.length, this.#received - offset));
    // An acknowledgement waits until the agent has sent what it is for.
    if (isKnown && !this.isComplete) this.#say();
    if (bytes.length === 0) return;
    if (this.isComplete) throw new Error('the agent sent output behind its end');
    this.#received = this.#expected;
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
    if (!this.isComplete && !this.destroyed) this.#say();
  }

  /** The agent sends from this offset again. */
  rewind(offset: number): void {
    if (offset > this.#received) throw new Error(`the agent has no output before ${offset}`);
    this.#expected = offset;
    this.#isRepeated = true;
  }

  /** @param acknowledged what the agent has heard of */
  sayAgain(acknowledged: number): void {
    if (Math.min(this.#acknowledged, this.#expected) > acknowledged) this.#say();
  }

  finish(offset: number): void {
    if (this.isComplete && this.#isRepeated && offset === this.#received) return;
    if (this.isComplete || offset !== this.#expected || offset !== this.#received)
      throw new Error(`the agent ended output at ${offset}`);
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

  #say(): void {
    this.#sendAcknowledgement(Math.min(this.#acknowledged, this.#expected));
  }

  #release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    if (!this.isComplete) this.#acknowledgeAll();
  }

  #acknowledgeAll(): void {
    if (this.#acknowledged === this.#received) return;
    this.#acknowledged = this.#received;
    this.#say();
  }
}

/** The input of a command. It has at most `inputBytesMax` bytes under way that the command has not read. */
export class AgentInput extends Writable {
  readonly #line: CommandLine;
  #sent = 0;
  /** The offset of the first byte in `unread`. */
  #kept = 0;
  #consumed = 0;
  #isEnded = false;
  /** The worker has said the end of the input. */
  #isEndSaid = false;
  /** What was sent and is not consumed: the agent may not have received it. */
  #unread: Uint8Array[] = [];
  #waiting: { bytes: Uint8Array; done: (error?: Error | null) => void } | null = null;

  constructor(line: CommandLine, known: KnownCommand | null) {
    super();
    this.#line = line;
    this.#sent = known?.received ?? 0;
    // What the worker before has sent is not sent again.
    this.#kept = this.#sent;
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
    this.#dropRead();
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

  /** @throws when the agent cannot have received this */
  check({ received, consumed }: KnownCommand): void {
    if (received > this.#sent || received < this.#kept || consumed > received)
      throw new Error(`the agent received ${received} bytes of input`);
  }

  sayAgain({ received, consumed, isInputEnded }: Pick<KnownCommand, 'received' | 'consumed' | 'isInputEnded'>): void {
    let offset = this.#kept;
    for (const part of this.#unread) {
      const end = offset + part.length;
      if (end > received) this.#line.input(part.subarray(Math.max(0, received - offset)));
      offset = end;
    }
    if (this.#isEndSaid && !isInputEnded) this.#line.endInput();
    this.setConsumed(Math.max(consumed, this.#consumed), false);
  }

  #dropRead(): void {
    let [first] = this.#unread;
    while (first !== undefined && this.#kept + first.length <= this.#consumed) {
      this.#kept += first.length;
      this.#unread.shift();
      [first] = this.#unread;
    }
  }

  #sendWaiting(): void {
    const waiting = this.#waiting;
    if (waiting === null || this.#isEnded) return;
    const room = inputBytesMax - (this.#sent - this.#consumed);
    const part = waiting.bytes.subarray(0, room);
    if (part.length > 0) {
      this.#line.input(part);
      this.#unread.push(part);
      this.#sent += part.length;
    }
    waiting.bytes = waiting.bytes.subarray(part.length);
    if (waiting.bytes.length > 0) return; // setConsumed goes on.
    this.#waiting = null;
    waiting.done();
  }

  #sendEnd(): void {
    if (this.#isEnded) return;
    this.#isEnded = this.#isEndSaid = true;
    this.#line.endInput();
  }
}
