// The messages between a worker and the agent of its box, as bytes. Pure. agent.h has the same formats. All numbers
// have 32 bits, little-endian, as on every processor that runs boxes; offsets have two of them. The agent lives in the
// box, so everything from it is checked here.
import { wordBytesMax } from '../drivers/argument-list.ts';

/** Version of these formats. An agent of another version is not used. */
export const agentVersion = 1;

/** A longer order takes the ordinary path. */
const orderBytesMax = 1024 * 1024;
const wordsMax = 16_384;
const groupsMax = 1_024;
const nameBytesMax = 64;
const headerBytes = 12;
/** Bytes of the length at the beginning of a frame. A wrong length is refused as soon as it is complete. */
const lengthBytes = 4;
/** Bytes of output in one frame. */
const pieceBytesMax = 64 * 1024;
/** Bytes of a frame from the agent, without the number of bytes at its beginning. */
const newsBytesMax = headerBytes + 12 + pieceBytesMax;
/** Bytes of input that a command has not read yet. The agent closes the connection when there are more. */
export const inputBytesMax = 64 * 1024;
/** Commands that the agent holds at once. */
export const agentCommandsMax = 4_096;

const kinds = {
  hello: 1,
  run: 2,
  signal: 3,
  input: 4,
  inputEnd: 5,
  resize: 6,
  acknowledge: 7,
  forget: 8,
  ping: 9,
  leave: 10,
} as const;
const tokenKind = 10;
const flags = { ownDirectory: 1, terminal: 2, input: 4, inputEnded: 8, usage: 16 } as const;
const stages = ['fork', 'join', 'streams', 'ids', 'frame', 'killed'] as const;

/** The step in which a start failed. */
export type StartStage = (typeof stages)[number];
/** 0 is stdout, or the output of a terminal. 1 is stderr. */
export type OutputNumber = 0 | 1;

export type News =
  | { readonly kind: 'hello'; readonly version: number; readonly commands: number }
  | KnownCommand
  | { readonly kind: 'started' | 'pong'; readonly id: number }
  | { readonly kind: 'failed'; readonly id: number; readonly stage: StartStage; readonly errno: number }
  | {
      readonly kind: 'output';
      readonly id: number;
      readonly output: OutputNumber;
      readonly offset: number;
      readonly bytes: Buffer;
    }
  | { readonly kind: 'end'; readonly id: number; readonly output: OutputNumber; readonly offset: number }
  /** `atExit`: how many bytes of each output were there when the leader ended. Later ones are of other processes. */
  | {
      readonly kind: 'exited';
      readonly id: number;
      readonly exitCode: number;
      readonly atExit: readonly [number, number];
      /** Absent from an agent of an earlier version. */
      readonly usage?: ProcessUsage;
    }
  /** `consumed`: bytes of input that the command has taken. `isClosed`: it takes no more. */
  | { readonly kind: 'room'; readonly id: number; readonly consumed: number; readonly isClosed: boolean };

/** Of the leader and its children that it has waited for. The peak is that of the largest process. */
export interface ProcessUsage {
  readonly cpuSeconds: number;
  readonly peakMemoryBytes: number;
  /** Processes that the kernel of a micro-VM killed meanwhile for lack of memory. Null in a container. */
  readonly oomKills: number | null;
}

/** A command that an earlier worker has started, and that no worker has told the agent to forget. */
export interface KnownCommand {
  readonly kind: 'known';
  readonly id: number;
  /** The id of the command in BoxRun. */
  readonly name: string;
  readonly hasInput: boolean;
  readonly isTerminal: boolean;
  readonly isInputEnded: boolean;
  /** Offsets up to which the agent keeps no output. */
  readonly acknowledged: readonly [number, number];
  /** Bytes of input that the agent has received, and that the command has taken. */
  readonly received: number;
  readonly consumed: number;
}

export interface AgentOrder {
  /** The id of the command in BoxRun. */
  readonly name: string;
  /** Name of the command's control group, below the box's. */
  readonly group: string;
  readonly cmd: readonly string[];
  readonly env: readonly string[];
  readonly workdir: string;
  readonly isOwnDirectory: boolean;
  readonly user: { readonly uid: number; readonly gid: number; readonly groups: readonly number[] };
  readonly tty: { readonly cols: number; readonly rows: number } | null;
  readonly stdin: boolean;
}

/** The first frame of an agent in a micro-VM. The number of its kind is among those that the agent says. */
export function encodeToken(token: string): Buffer {
  return frame(tokenKind, 0, [], Buffer.from(token));
}

/** @param generation the lease of this worker; the agent obeys the highest one */
export function encodeHello(generation: number): Buffer {
  return frame(kinds.hello, 1, [agentVersion, ...offsetWords(generation)]);
}

/** Returns the frame that starts a command. Null: it is too large, or it has a text that no argument can hold. */
export function encodeRun(id: number, order: AgentOrder): Buffer | null {
  const { user, cmd, env, tty } = order;
  if (cmd.length + env.length > wordsMax || user.groups.length > groupsMax) return null;
  if (order.name.length >= nameBytesMax) return null;
  const words = [order.name, order.group, logicalPath(order.workdir), order.workdir, ...cmd, ...env];
  if (words.some((word) => word.includes('\0') || Buffer.byteLength(word) >= wordBytesMax)) return null;
  const text = Buffer.from(`${words.join('\0')}\0`);
  const numbers = [
    ...[user.uid, user.gid, flagsOf(order), tty?.rows ?? 0, tty?.cols ?? 0],
    ...[user.groups.length, cmd.length, env.length, ...user.groups],
  ];
  if (headerBytes + 4 * numbers.length + text.length > orderBytesMax) return null;
  return frame(kinds.run, id, numbers, text);
}

function flagsOf({ isOwnDirectory, tty, stdin }: AgentOrder): number {
  const asked = (isOwnDirectory ? flags.ownDirectory : 0) | (tty === null ? 0 : flags.terminal);
  return asked | (stdin ? flags.input : 0) | flags.usage;
}

export function encodeSignal(id: number, signal: number): Buffer {
  return frame(kinds.signal, id, [signal]);
}

export function encodeInput(id: number, bytes: Uint8Array): Buffer {
  return frame(kinds.input, id, [], bytes);
}

export function encodeInputEnd(id: number): Buffer {
  return frame(kinds.inputEnd, id, []);
}

export function encodeResize(id: number, rows: number, cols: number): Buffer {
  return frame(kinds.resize, id, [rows, cols]);
}

/** The worker has all bytes of this output up to `offset` and does not want them again. */
export function encodeAcknowledge(id: number, output: OutputNumber, offset: number): Buffer {
  return frame(kinds.acknowledge, id, [output, ...offsetWords(offset)]);
}

/** The worker has the end of the command, and wants nothing more of it. */
export function encodeForget(id: number): Buffer {
  return frame(kinds.forget, id, []);
}

export function encodePing(id: number): Buffer {
  return frame(kinds.ping, id, []);
}

/** The agent starts no more commands, and ends after its last one. */
export function encodeLeave(): Buffer {
  return frame(kinds.leave, 1, []);
}

/**
 * Returns an absolute path as a shell's `cd` understands it and writes it in PWD: `..` removes the name before it, even
 * if that is a link.
 */
export function logicalPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `${/^\/\/(?!\/)/.test(path) ? '//' : '/'}${parts.join('/')}`;
}

function offsetWords(offset: number): [number, number] {
  return [offset % 2 ** 32, Math.floor(offset / 2 ** 32)];
}

function frame(kind: number, id: number, numbers: readonly number[], rest?: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(headerBytes + 4 * numbers.length + (rest?.length ?? 0));
  bytes.writeUInt32LE(bytes.length - 4, 0);
  bytes.writeUInt32LE(kind, 4);
  bytes.writeUInt32LE(id, 8);
  for (const [index, number] of numbers.entries()) bytes.writeUInt32LE(number, headerBytes + 4 * index);
  if (rest !== undefined) bytes.set(rest, headerBytes + 4 * numbers.length);
  return bytes;
}

/** The kind of news with output. */
const outputKind = 5;
/** Output of which fewer bytes have come waits for the rest of its frame. */
const outputPartBytesLeast = 4_096;
const outputHeadBytes = headerBytes + 12;

interface OutputRest {
  readonly id: number;
  readonly output: OutputNumber;
  offset: number;
  /** Bytes of the frame that have not come. */
  bytes: number;
}

/**
 * Returns a function that takes the next piece of a stream and returns its news. Long output comes in parts, as it
 * arrives, because joining the pieces would copy every byte. All other news are complete. @throws on wrong ones
 */
export function createNewsReader(): (piece: Buffer) => News[] {
  let pieces: Buffer[] = [];
  let length = 0;
  let rest: OutputRest | null = null;

  /** Takes what belongs to the output under way, and returns the bytes behind it. */
  function takeRest(piece: Buffer, news: News[]): Buffer {
    if (rest === null) return piece;
    const bytes = piece.subarray(0, rest.bytes);
    news.push({ kind: 'output', id: rest.id, output: rest.output, offset: rest.offset, bytes });
    rest.offset += bytes.length;
    rest.bytes -= bytes.length;
    if (rest.bytes === 0) rest = null;
    return piece.subarray(bytes.length);
  }

  return (piece) => {
    const news: News[] = [];
    const own = takeRest(piece, news);
    if (own.length === 0) return news;
    pieces.push(own);
    length += own.length;
    const wanted = pieces.length === 1 ? 0 : 4 + frameLength(pieces[0] as Buffer);
    if (length < wanted) return news;
    const bytes = pieces.length === 1 ? own : Buffer.concat(pieces, length);
    let at = 0;
    while (bytes.length - at >= lengthBytes) {
      const end = at + 4 + frameLength(bytes.subarray(at));
      if (end > bytes.length) break;
      news.push(parseNews(bytes.subarray(at + 4, end)));
      at = end;
    }
    const left = bytes.subarray(at);
    if (left.length >= outputHeadBytes + outputPartBytesLeast && left.readUInt32LE(4) === outputKind) {
      const part = parseNews(left.subarray(4));
      news.push(part);
      if (part.kind === 'output') {
        const { id, output, offset, bytes: begin } = part;
        rest = { id, output, offset: offset + begin.length, bytes: 4 + frameLength(left) - left.length };
      }
      pieces = [];
      length = 0;
      return news;
    }
    pieces = left.length === 0 ? [] : [left];
    length = left.length;
    return news;
  };
}

/** The bytes of the first frame after its length. Zero: the length is not complete yet. */
function frameLength(bytes: Buffer): number {
  if (bytes.length < lengthBytes) return 0;
  const length = bytes.readUInt32LE(0);
  if (length < headerBytes - 4 || length > newsBytesMax) throw new Error(`the agent sent a frame of ${length} bytes`);
  return length;
}

/** @param bytes kind, id and body of one frame */
function parseNews(bytes: Buffer): News {
  const kind = bytes.readUInt32LE(0);
  const id = bytes.readUInt32LE(4);
  const body = bytes.subarray(8);
  const words = (count: number): number[] => {
    if (body.length < 4 * count) throw impossible(kind, body);
    return Array.from({ length: count }, (_, index) => body.readUInt32LE(4 * index));
  };
  const exactly = (count: number): number[] => {
    if (body.length !== 4 * count) throw impossible(kind, body);
    return words(count);
  };
  switch (kind) {
    case 1: {
      const [version = 0, commands = 0] = exactly(2);
      return { kind: 'hello', version, commands };
    }
    case 2: {
      const [flag = 0, ...offsets] = words(9);
      const pair = (at: number) => offsetOf(offsets[at] ?? 0, offsets[at + 1] ?? 0);
      return {
        kind: 'known',
        id,
        name: body.subarray(36).toString(),
        hasInput: (flag & (flags.input | flags.terminal)) !== 0,
        isTerminal: (flag & flags.terminal) !== 0,
        isInputEnded: (flag & flags.inputEnded) !== 0,
        acknowledged: [pair(0), pair(2)],
        consumed: pair(4),
        received: pair(6),
      };
    }
    case 3:
      exactly(0);
      return { kind: 'started', id };
    case 4: {
      const [stage = 0, errno = 0] = exactly(2);
      const name = stages[stage - 1];
      if (name === undefined) throw impossible(kind, body);
      return { kind: 'failed', id, stage: name, errno };
    }
    case outputKind: {
      const [output = 0, low = 0, high = 0] = words(3);
      if (body.length === 12) throw impossible(kind, body);
      return { kind: 'output', id, output: outputOf(output), offset: offsetOf(low, high), bytes: body.subarray(12) };
    }
    case 6: {
      const [output = 0, low = 0, high = 0] = exactly(3);
      return { kind: 'end', id, output: outputOf(output), offset: offsetOf(low, high) };
    }
    case 7: {
      const hasKills = body.length === 36;
      const hasUsage = body.length === 32 || hasKills;
      const [exitCode = 0, low = 0, high = 0, otherLow = 0, otherHigh = 0, ...used] = exactly(
        hasKills ? 9 : hasUsage ? 8 : 5,
      );
      if (exitCode > 255) throw impossible(kind, body);
      const [cpuLow = 0, cpuHigh = 0, peakKib = 0, kills = 0] = used;
      const cpuSeconds = offsetOf(cpuLow, cpuHigh) / 1e6;
      const usage = {
        cpuSeconds,
        peakMemoryBytes: peakKib * 1024,
        oomKills: hasKills && kills < 2 ** 32 - 1 ? kills : null,
      };
      const atExit = [offsetOf(low, high), offsetOf(otherLow, otherHigh)] as const;
      return { kind: 'exited', id, exitCode, atExit, ...(hasUsage ? { usage } : {}) };
    }
    case 8: {
      const [low = 0, high = 0, isClosed = 0] = exactly(3);
      return { kind: 'room', id, consumed: offsetOf(low, high), isClosed: isClosed !== 0 };
    }
    case 9:
      exactly(0);
      return { kind: 'pong', id };
    default:
      throw impossible(kind, body);
  }
}

function impossible(kind: number, body: Buffer): Error {
  return new Error(`the agent sent something impossible: kind ${kind} with ${body.length} bytes`);
}

function outputOf(number: number): OutputNumber {
  if (number === 0 || number === 1) return number;
  throw new Error(`the agent sent something impossible: output ${number}`);
}

function offsetOf(low: number, high: number): number {
  const offset = low + high * 2 ** 32;
  if (!Number.isSafeInteger(offset)) throw new Error('the agent sent an impossible offset');
  return offset;
}
