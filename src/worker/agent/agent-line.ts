// The connection of a worker to the agent of its box: it sends orders and gives each command its news. The agent lives
// in the box, so news that cannot be true close the line. When the connection breaks, the line goes on with a new one
// and loses no command. When there is no new one, all commands that have not ended are lost.
import type { Duplex } from 'node:stream';
import { errorText } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { createRestartWindow } from '../../shared/process/restart-window.ts';
import { withDeadline } from '../../shared/waiting/clock.ts';
import { CommandOfAgent, type AgentCommand } from './agent-command.ts';
import type { CommandLine } from './agent-streams.ts';
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

/** Losses of the connection within restartWindowMs. With the next one, the line is closed. */
const lossesMax = 16;
/** Signals and new sizes that wait for a new connection. More are dropped. */
const heldMax = 1_024;
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
  /** Resolves when the line has a connection, or is closed. Until then it takes no commands. */
  connected(): Promise<void>;
  /** The connection is broken. The line asks for a new one. */
  lose(): void;
  close(reason: string): void;
  /** The agent takes no new command, and ends after its last one. */
  leave(): void;
}

/**
 * @param generation the lease of this worker; the agent obeys the highest one
 * @param connectAgain makes a new connection to the same agent. Rejects when the agent has ended. Absent: there is none
 */
export function createAgentLine(
  socket: Duplex,
  generation: number,
  connectAgain: (() => Promise<Duplex>) | null = null,
): AgentLine {
  return new Line(socket, generation, connectAgain);
}

class Line implements AgentLine {
  readonly ready: Promise<void>;
  readonly closed: Promise<string>;
  #socket: Duplex;
  readonly #generation: number;
  readonly #connectAgain: (() => Promise<Duplex>) | null;
  readonly #losses = createRestartWindow(lossesMax);
  readonly #commands = new Map<number, CommandOfAgent>();
  /** Acknowledgements that are not sent yet: id and output, and the offset. */
  readonly #acknowledgements = new Map<string, readonly [id: number, output: OutputNumber, offset: number]>();
  readonly found = new Map<string, CommandOfAgent>();
  /** Orders of commands that have not begun. The agent may not have received them when the connection breaks. */
  readonly #orders = new Map<number, Buffer>();
  /** Null while there is a connection. Else what the agent has named on the new one. */
  #named: Set<number> | null = null;
  /** Signals and sizes that wait for the new connection. */
  #held: (() => void)[] = [];
  #waiting: (() => void)[] = [];
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

  constructor(socket: Duplex, generation: number, connectAgain: (() => Promise<Duplex>) | null) {
    this.#socket = socket;
    this.#generation = generation;
    this.#connectAgain = connectAgain;
    this.ready = new Promise((resolve) => {
      this.#tellReady = resolve;
    });
    this.closed = new Promise((resolve) => {
      this.#tellClosed = resolve;
    });
    this.#use(socket);
  }

  #use(socket: Duplex): void {
    this.#socket = socket;
    const read = createNewsReader();
    let isLost = false;
    socket.on('data', (piece: Buffer) => {
      if (socket !== this.#socket) return;
      try {
        for (const news of read(piece)) this.#handle(news);
      } catch (error) {
        this.close(errorText(error));
      }
    });
    socket.on('error', () => undefined); // 'close' follows.
    for (const event of ['close', 'end']) {
      socket.on(event, () => {
        if (socket === this.#socket && !isLost) {
          isLost = true;
          this.lose();
        }
      });
    }
    this.#write(encodeHello(this.#generation));
  }

  connected(): Promise<void> {
    if (this.#isClosed || this.#named === null) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  lose(): void {
    if (this.#isClosed) return;
    const isFirst = !this.#isGreeted && this.#named === null;
    // An agent that was told to leave has ended after its last command.
    const hasLeft = this.#isLeaving && this.#commands.size === 0;
    if (this.#connectAgain === null || isFirst || hasLeft || !this.#losses.take()) {
      this.close(endedReason);
      return;
    }
    this.#isGreeted = false;
    this.#unnamed = 0;
    this.#named = new Set();
    this.#acknowledgements.clear();
    const lost = this.#socket;
    void this.#replace(this.#connectAgain, lost);
  }

  async #replace(connectAgain: () => Promise<Duplex>, lost: Duplex): Promise<void> {
    try {
      const coming = connectAgain();
      coming.then(
        (socket) => {
          if (this.#isClosed || this.#socket !== lost) socket.destroy();
          else this.#use(socket);
        },
        () => undefined,
      );
      lost.destroy();
      await withDeadline(
        coming.then(() => this.connected()),
        limits.agentAdoptTimeoutMs,
        'a new connection to the agent',
      );
    } catch {
      if (this.#named !== null) this.close(endedReason);
    }
  }

  /** The agent has named all of its commands on the new connection. */
  #goOn(named: ReadonlySet<number>): void {
    this.#named = null;
    for (const [id, command] of this.#commands) {
      if (named.has(id)) {
        command.sayAgain();
        continue;
      }
      const order = this.#orders.get(id);
      // The agent has not received the order, so the command has not begun.
      if (order !== undefined && !command.hasBegun) {
        this.#send(order);
        command.sayInputAgain();
      } else {
        this.#commands.delete(id);
        command.lose(endedReason);
      }
    }
    const held = this.#held;
    this.#held = [];
    for (const say of held) say();
    this.#tellWaiting();
  }

  #tellWaiting(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting = [];
  }

  run(order: AgentOrder, acknowledges = false): AgentCommand | null {
    if (this.#isClosed || this.#isLeaving || this.#named !== null) return null;
    if (this.#commands.size >= agentCommandsMax) return null;
    const id = (this.#lastId += 1);
    const frame = encodeRun(id, order);
    if (frame === null) return null;
    const hasInput = order.stdin || order.tty !== null;
    const command = new CommandOfAgent(this.#lineOf(id), { hasInput, acknowledges, known: null });
    this.#commands.set(id, command);
    this.#orders.set(id, frame);
    const forgetOrder = () => this.#orders.delete(id);
    void command.begun.then(forgetOrder, forgetOrder);
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
    this.#named = null;
    this.#held = [];
    this.#tellWaiting();
    this.#tellClosed(reason);
  }

  leave(): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    this.#sendOrHold(encodeLeave);
  }

  /** A command that the agent names on a new connection. */
  #nameAgain(known: KnownCommand, named: Set<number>): void {
    if (this.#unnamed === 0 || named.has(known.id) || known.id > this.#lastId)
      throw new Error(`the agent named the command ${known.id}, which is impossible`);
    named.add(known.id);
    const command = this.#commands.get(known.id);
    if (command === undefined)
      this.#write(encodeForget(known.id)); // The connection broke before the agent heard it.
    else command.noteKnown(known);
    this.#unnamed -= 1;
    if (this.#unnamed === 0) this.#goOn(named);
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
        if (this.#commands.has(id)) this.#sendOrHold(() => encodeSignal(id, signal));
      },
      resize: (rows, cols) => {
        if (this.#commands.has(id)) this.#sendOrHold(() => encodeResize(id, rows, cols));
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

  /** For what `sayAgain` of a command does not repeat. */
  #sendOrHold(frame: () => Buffer): void {
    if (this.#named === null) this.#send(frame());
    else if (this.#held.length < heldMax) this.#held.push(() => this.#send(frame()));
  }

  /** While there is no connection, frames are dropped: the commands say again what matters. */
  #send(frame: Buffer): void {
    if (this.#named === null) this.#write(frame);
  }

  /** Frames of the same turn of the event loop go out together. */
  #write(frame: Buffer): void {
    if (this.#isClosed) return;
    if (!this.#isCorked) {
      this.#isCorked = true;
      this.#socket.cork();
      const socket = this.#socket;
      process.nextTick(() => {
        this.#isCorked = false;
        socket.uncork();
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
      if (this.#unnamed > 0) return;
      if (this.#named === null) this.#tellReady();
      else this.#goOn(this.#named);
      return;
    }
    if (news.kind === 'known') {
      if (this.#named === null) this.#addFound(news);
      else this.#nameAgain(news, this.#named);
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
