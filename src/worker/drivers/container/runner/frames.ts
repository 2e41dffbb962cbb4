// The messages between worker and runner as bytes: orders to the runner, and reports of a fixed length from it. Pure.
// runner.h has the same formats. All numbers have 32 bits, little-endian, as on every processor that runs boxes. The
// runner lives in the box, so its reports are checked here.

import { wordBytesMax } from '../../argument-list.ts';

/** Version of these formats. A runner of another version does not start. */
export const runnerVersion = '1';

/** A longer order takes the ordinary path. */
const orderBytesMax = 1024 * 1024;
const wordsMax = 16_384;
const groupsMax = 1_024;
const headerBytes = 12;
const reportBytes = 16;

const orderKinds = { run: 1, signal: 2, ping: 3 } as const;
const reportKinds = ['ready', 'started', 'failed', 'exited', 'pong'] as const;
const stages = ['fork', 'join', 'streams', 'ids', 'frame', 'killed'] as const;

export type StartStage = (typeof stages)[number];

export type Report =
  | { readonly kind: 'ready' | 'pong' | 'started'; readonly id: number }
  | { readonly kind: 'failed'; readonly id: number; readonly stage: StartStage; readonly errno: number }
  | { readonly kind: 'exited'; readonly id: number; readonly exitCode: number };

export interface RunOrder {
  /** Name of the command's control group, below the box's. */
  readonly group: string;
  /** Names of the command's FIFOs. Without `input` it reads from /dev/null. */
  readonly input: string | null;
  readonly output: string;
  readonly errors: string;
  readonly cmd: readonly string[];
  readonly env: readonly string[];
  readonly workdir: string;
  readonly isOwnDirectory: boolean;
  readonly user: { readonly uid: number; readonly gid: number; readonly groups: readonly number[] };
}

/** Returns the frame that starts a command. Null: it is too large, or it has a text that no argument can hold. */
export function encodeRun(id: number, order: RunOrder): Buffer | null {
  const { user, cmd, env } = order;
  if (cmd.length + env.length > wordsMax || user.groups.length > groupsMax) return null;
  const words = [
    order.group,
    order.input ?? '',
    order.output,
    order.errors,
    logicalPath(order.workdir),
    order.workdir,
    ...cmd,
    ...env,
  ];
  if (words.some((word) => word.includes('\0') || Buffer.byteLength(word) >= wordBytesMax)) return null;
  const text = Buffer.from(`${words.join('\0')}\0`);
  if (text.length > orderBytesMax - headerBytes - 4 * (7 + groupsMax)) return null;
  const flags = order.isOwnDirectory ? 1 : 0;
  return frame(
    orderKinds.run,
    id,
    [user.uid, user.gid, flags, user.groups.length, cmd.length, env.length, ...user.groups],
    text,
  );
}

export function encodeSignal(id: number, signal: number): Buffer {
  return frame(orderKinds.signal, id, [signal]);
}

export function encodePing(id: number): Buffer {
  return frame(orderKinds.ping, id, []);
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

function frame(kind: number, id: number, numbers: readonly number[], text: Buffer = Buffer.alloc(0)): Buffer {
  const paddingFrom = headerBytes + 4 * numbers.length + text.length;
  const padding = 4 - (paddingFrom % 4);
  const bytes = Buffer.alloc(paddingFrom + padding, padding);
  [bytes.length - 4, kind, id, ...numbers].forEach((value, index) => bytes.writeUInt32LE(value, 4 * index));
  text.copy(bytes, paddingFrom - text.length);
  return bytes;
}

/** Returns a function that takes the next piece of a stream and returns its complete reports. @throws on a wrong one */
export function createReportReader(): (piece: Buffer) => Report[] {
  let rest: Buffer = Buffer.alloc(0);
  return (piece) => {
    const bytes = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    const whole = bytes.length - (bytes.length % reportBytes);
    rest = bytes.subarray(whole);
    const reports: Report[] = [];
    for (let at = 0; at < whole; at += reportBytes) {
      const [kind = 0, id = 0, value = 0, detail = 0] = [0, 4, 8, 12].map((offset) => bytes.readUInt32LE(at + offset));
      reports.push(reportOf(reportKinds[kind - 1], id, value, detail));
    }
    return reports;
  };
}

function reportOf(kind: (typeof reportKinds)[number] | undefined, id: number, value: number, detail: number): Report {
  const stage = stages[detail - 1];
  if (kind === 'failed' && stage !== undefined) return { kind, id, stage, errno: value };
  if (kind === 'exited' && value <= 255) return { kind, id, exitCode: value };
  if (kind === 'ready' || kind === 'pong' || kind === 'started') return { kind, id };
  throw new Error(`the runner said something impossible: ${kind ?? 'unknown kind'} ${value} ${detail}`);
}
