// Frames on a byte stream: a length (u32, big-endian), then one message in msgpack. msgpackr's records are off, so each
// message can be read alone: a record table would be lost with the connection.
import { Packr } from 'msgpackr';
import { limits } from '../limits.ts';

const packr = new Packr({ useRecords: false, variableMapSize: true });
const headerBytes = 4;

/** A frame that breaks a rule. The connection must then be closed. */
export class FrameError extends Error {}

/** @throws FrameError if the message is longer than limits.frameBytesMax */
export function encodeFrame(message: unknown): Buffer {
  const body = packr.pack(message);
  if (body.length > limits.frameBytesMax) throw new FrameError(`frame of ${body.length} bytes`);
  const frame = Buffer.allocUnsafe(headerBytes + body.length);
  frame.writeUInt32BE(body.length, 0);
  body.copy(frame, headerBytes);
  return frame;
}

/** The longest head of a frame with bytes: the length, an array of two, the text `data`, the length of the bytes. */
export const bytesHeadMax = headerBytes + 1 + 5 + 5;
const bytesStart = Buffer.from([0x92, 0xa4, ...Buffer.from('data')]);
const bin32 = 0xc6;

/**
 * The head of the frame `['data', bytes]`. The bytes follow it unchanged, so a sender need not copy them.
 * @param count how many bytes follow
 */
export function encodeBytesHead(count: number): Buffer {
  const head = Buffer.allocUnsafe(bytesHeadMax);
  head.writeUInt32BE(bytesHeadMax - headerBytes + count, 0);
  bytesStart.copy(head, headerBytes);
  head[bytesHeadMax - 5] = bin32;
  head.writeUInt32BE(count, bytesHeadMax - 4);
  return head;
}

/**
 * If a frame made by encodeBytesHead begins here, the number of its bytes. Null: another frame, or too little of it.
 * @throws FrameError if the frame is too long, or if it has more than its bytes
 */
export function readBytesHead(front: Buffer, frameBytesMax: number): number | null {
  if (front.length < bytesHeadMax || front[bytesHeadMax - 5] !== bin32) return null;
  if (bytesStart.compare(front, headerBytes, headerBytes + bytesStart.length) !== 0) return null;
  const frameBytes = nextFrameBytes(front, frameBytesMax) ?? 0;
  const count = front.readUInt32BE(bytesHeadMax - 4);
  if (frameBytes !== bytesHeadMax + count) throw new FrameError('a frame with bytes has something else, too');
  return count;
}

/**
 * Makes a function that takes the pieces that a socket reads, and returns the messages that are complete. It holds at
 * most one frame and one piece.
 */
export function createFrameDecoder(frameBytesMax: number = limits.frameBytesMax): (piece: Buffer) => unknown[] {
  let pieces: Buffer[] = [];
  let pendingBytes = 0;
  return (piece) => {
    // If the header arrived in parts, they are joined, so that the first piece contains the whole header.
    if ((pieces[0]?.length ?? headerBytes) < headerBytes) pieces = [Buffer.concat([...pieces, piece])];
    else pieces.push(piece);
    pendingBytes += piece.length;
    const messages: unknown[] = [];
    let buffer: Buffer | undefined;
    let offset = 0;
    for (;;) {
      const frameBytes = nextFrameBytes(buffer?.subarray(offset) ?? pieces[0], frameBytesMax);
      if (frameBytes === null || pendingBytes < frameBytes) break;
      buffer ??= joined(pieces);
      messages.push(unpack(buffer.subarray(offset + headerBytes, offset + frameBytes)));
      offset += frameBytes;
      pendingBytes -= frameBytes;
    }
    if (buffer !== undefined) pieces = pendingBytes === 0 ? [] : [buffer.subarray(offset)];
    return messages;
  };
}

function joined(pieces: readonly Buffer[]): Buffer {
  const [first, second] = pieces;
  return first !== undefined && second === undefined ? first : Buffer.concat(pieces);
}

/** The length of the next frame with its header, in bytes. Null while the header is incomplete. */
function nextFrameBytes(front: Buffer | undefined, frameBytesMax: number): number | null {
  if (front === undefined || front.length < headerBytes) return null;
  const bodyBytes = front.readUInt32BE(0);
  if (bodyBytes > frameBytesMax) throw new FrameError(`frame of ${bodyBytes} bytes announced`);
  return headerBytes + bodyBytes;
}

/** @throws FrameError */
function unpack(body: Buffer): unknown {
  try {
    return packr.unpack(body);
  } catch (error) {
    throw new FrameError(`frame does not parse: ${String(error)}`);
  }
}
