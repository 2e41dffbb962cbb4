// Frames on a byte stream: a u32 big-endian length, then one msgpackr message that stands on its own.
// Used by connection.ts and stream.ts. Records are off: a shared record table would be lost with the connection.
import { Packr } from 'msgpackr';
import { limits } from '../limits.ts';

const packr = new Packr({ useRecords: false, variableMapSize: true });
const headerBytes = 4;

/** A frame that breaks a rule; the connection it came from must be closed. */
export class FrameError extends Error {}

/**
 * One message as a frame.
 * @throws FrameError when it is longer than limits.frameBytesMax
 */
export function encodeFrame(message: unknown): Buffer {
  const body = packr.pack(message);
  if (body.length > limits.frameBytesMax) throw new FrameError(`frame of ${body.length} bytes`);
  const frame = Buffer.allocUnsafe(headerBytes + body.length);
  frame.writeUInt32BE(body.length, 0);
  body.copy(frame, headerBytes);
  return frame;
}

/** Takes pieces as they come from a socket and gives whole messages. Memory is bounded by one frame and one piece. */
export function createFrameDecoder(frameBytesMax: number = limits.frameBytesMax): (piece: Buffer) => unknown[] {
  let pieces: Buffer[] = [];
  let pendingBytes = 0;
  return (piece) => {
    // A header that came in parts is put together, so that it stands in the first piece.
    if ((pieces[0]?.length ?? headerBytes) < headerBytes) pieces = [Buffer.concat([...pieces, piece])];
    else pieces.push(piece);
    pendingBytes += piece.length;
    const messages: unknown[] = [];
    let buffer: Buffer | undefined;
    let offset = 0;
    for (;;) {
      const wanted = nextFrameBytes(buffer?.subarray(offset) ?? pieces[0], frameBytesMax);
      if (wanted === null || pendingBytes < wanted) break;
      buffer ??= whole(pieces);
      messages.push(unpack(buffer.subarray(offset + headerBytes, offset + wanted)));
      offset += wanted;
      pendingBytes -= wanted;
    }
    if (buffer !== undefined) pieces = pendingBytes === 0 ? [] : [buffer.subarray(offset)];
    return messages;
  };
}

function whole(pieces: readonly Buffer[]): Buffer {
  const [first, second] = pieces;
  return first !== undefined && second === undefined ? first : Buffer.concat(pieces);
}

/** Length of the next frame with its header, or null while even the header is incomplete. */
function nextFrameBytes(front: Buffer | undefined, frameBytesMax: number): number | null {
  if (front === undefined || front.length < headerBytes) return null;
  const bodyBytes = front.readUInt32BE(0);
  if (bodyBytes > frameBytesMax) throw new FrameError(`frame of ${bodyBytes} bytes announced`);
  return headerBytes + bodyBytes;
}

function unpack(body: Buffer): unknown {
  try {
    return packr.unpack(body);
  } catch (error) {
    throw new FrameError(`frame does not parse: ${String(error)}`);
  }
}
