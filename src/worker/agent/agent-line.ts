// The connection of a worker to the agent of its box: it sends orders and gives each command its news. The agent lives
// in the box, so news that cannot be true close the connection. When the connection ends, all commands that have not
// ended are lost.
import type { Duplex } from 'node:stream';
import { errorText } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { CommandOfAgent, type AgentCommand, type CommandLine } from './agent-command.ts';
import {
  agentCommandsMax,
  agentVersion,
  createNewsReader,
  encodeAcknowledge,
  encodeForget,
  encodeHello,
  encodeInput,
  encodeInputEnd,
  encodeLeave,
  encodePing,
  encodeResize,
  encodeRun,
  encodeSignal,
  type AgentOrder,
  type KnownCommand,
  type News,
  type OutputNumber,
} from './frames.ts';

const endedReason = 'the agent in the box ended';

export interface AgentLine {
  /** Resolves when the agent has said hello and named all commands of earlier workers. */
  readonly ready: Promise<void>;
  /** Resolves with the reason. */
  readonly closed: Promise<string>;
  /**
   * Starts a command. Null: the order is too long for the agent, or the connection is closed or closing.
   * @param acknowledges true: the caller says what is committed, and when the command may be forgotten
   */
  run(order: AgentOrder, acknowledges?: boolean): AgentCommand | null;
  /** The commands of earlier workers by their names. */
  readonly found: ReadonlyMap<string, AgentCommand>;
  close(reason: string): void;
  /** The agent takes no new command, and ends after its last one. */
  leave(): void;
}

/** @param generation the lease of this worker; the agent obeys the highest one */
export function createAgentLine(socket: Duplex, generation: number): AgentLine {
  return new Line(socket, generation);
}

class Line implements AgentLine {
  readonly ready: Promise<void>;
  readonly closed: Promise<string>;
  readonly #socket: Duplex;
  readonly #commands = new Map<number, CommandOfAgent>();
  /** Acknowledgements that are not sent yet: id and output, and the offset. */
  readonly #acknowledgements = new Map<string, readonly [id: number, output: OutputNumber, offset: number]>();
  readonly found = new Map<string, CommandOfAgent>();
  #lastId = 0;
  /** How many commands of earlier workers the agent has still to name. */
  #unnamed = 0;
  #isClosed = false;
  #isLeaving = false;
  #isGreeted = false;
  #isCorked = false;
  #unanswered = 0;
  #timer: NodeJS.Timeout | null = null;
  #tellReady: () => void = () => undefined;
  #tellClosed: (reason: string) => void = () => undefined;

  constructor(socket: Duplex, generation: number) {
    this.#socket = socket;
    this.ready = new Promise((resolve) => {
      this.#tellReady = resolve;
    });
    this.closed = new Promise((resolve) => {
      this.#tellClosed = resolve;
    });
    const read = createNewsReader();
    socket.on('data', (piece: Buffer) => {
      try {
        for (const news of read(piece)) this.#handle(news);
      } catch (error) {
        this.close(errorText(error));
      }
    });
    socket.on('error', () => undefined); // 'close' follows.
    for (const event of ['close', 'end']) {
      socket.on(event, () => {
        this.close(endedReason);
      });
    }
    this.#send(encodeHello(generation));
  }

  run(order: AgentOrder, acknowledges = false): AgentCommand | null {
    if (this.#isClosed || this.#isLeaving || this.#commands.size >= agentCommandsMax) return null;
    const id = (this.#lastId += 1);
    const frame = encodeRun(id, order);
    if (frame === null) return null;
    const hasInput = order.stdin || order.tty !== null;
    const command = new CommandOfAgent(this.#lineOf(id), { hasInput, acknowledges, known: null });
    this.#commands.set(id, command);
    this.#startPings();
    this.#send(frame);
    return command;
  }

  close(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#socket.destroy();
    const lost = [...this.#commands.values()];
    this.#commands.clear();
    for (const command of lost) command.lose(reason);
    this.#tellClosed(reason);
  }

  leave(): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    this.#send(encodeLeave());
  }

  #addFound(known: KnownCommand): void {
    if (this.#unnamed === 0 || this.#commands.has(known.id) || this.found.has(known.name))
      throw new Error(`the agent named the command ${known.id}, which is impossible`);
    const command = new CommandOfAgent(this.#lineOf(known.id), { hasInput: known.hasInput, acknowledges: true, known });
    this.#commands.set(known.id, command);
    this.found.set(known.name, command);
    this.#lastId = Math.max(this.#lastId, known.id);
    this.#startPings();
    this.#unnamed -= 1;
    if (this.#unnamed === 0) this.#tellReady();
  }

  #lineOf(id: number): CommandLine {
    const send = (frame: Buffer) => {
      if (this.#commands.has(id)) this.#send(frame);
    };
    return {
      signal: (signal) => {
        send(encodeSignal(id, signal));
      },
      resize: (rows, cols) => {
        send(encodeResize(id, rows, cols));
      },
      input: (bytes) => {
        send(encodeInput(id, bytes));
      },
      endInput: () => {
        send(encodeInputEnd(id));
      },
      acknowledge: (output, offset) => {
        if (!this.#commands.has(id)) return;
        if (this.#acknowledgements.size === 0) setImmediate(() => this.#sendAcknowledgements());
        this.#acknowledgements.set(`${id}/${output}`, [id, output, offset]);
      },
      forget: () => {
        send(encodeForget(id));
        this.#commands.delete(id);
        this.#stopPingsWhenIdle();
      },
    };
  }

  /** Several pieces of the same output need only one, and a command that is forgotten meanwhile needs none. */
  #sendAcknowledgements(): void {
    for (const [id, output, offset] of this.#acknowledgements.values())
      if (this.#commands.has(id)) this.#send(encodeAcknowledge(id, output, offset));
    this.#acknowledgements.clear();
  }

  /** Frames of the same turn of the event loop go out together. */
  #send(frame: Buffer): void {
    if (this.#isClosed) return;
    if (!this.#isCorked) {
      this.#isCorked = true;
      this.#socket.cork();
      process.nextTick(() => {
        this.#isCorked = false;
        this.#socket.uncork();
      });
    }
    this.#socket.write(frame);
  }

  #handle(news: News): void {
    if (this.#isClosed) return;
    this.#unanswered = 0;
    if (news.kind === 'pong') return;
    if (news.kind === 'hello') {
      if (this.#isGreeted || news.version !== agentVersion) throw new Error(`the agent said hello ${news.version}`);
      this.#isGreeted = true;
      this.#unnamed = news.commands;
      if (this.#unnamed === 0) this.#tellReady();
      return;
    }
    if (news.kind === 'known') {
      this.#addFound(news);
      return;
    }
    const command = this.#commands.get(news.id);
    if (command !== undefined && this.#isGreeted) command.receive(news);
    // The worker may have sent `forget` while these news were under way.
    else if (news.id === 0 || news.id > this.#lastId || !this.#isGreeted)
      throw new Error(`the agent said ${news.kind} of a command that it does not have`);
  }

  /** Without pings the worker would not notice that the agent is stopped (SIGSTOP) or gets no CPU time. */
  #startPings(): void {
    if (this.#timer !== null) return;
    this.#unanswered = 0;
    this.#timer = setInterval(() => {
      this.#unanswered += 1;
      if (this.#unanswered > limits.agentPingsUnansweredMax) this.close('the agent in the box did not answer');
      else this.#send(encodePing((this.#lastId += 1)));
    }, limits.agentPingMs);
    this.#timer.unref();
  }

  #stopPingsWhenIdle(): void {
    if (this.#commands.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }
}
