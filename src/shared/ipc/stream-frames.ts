// The frames of a stream. They are frames as all others (frame.ts), but the bytes of a message `data` are never copied:
// the sender writes its head and then the bytes, and the receiver gives the bytes as they come, in as many parts.
import { FrameError, unpack } from './frame.ts';

const lengthBytes = 4;
/** msgpack: a list of two, and the text `data`. */
const dataStart = Buffer.from([0x92, 0xa4, ...Buffer.from('data')]);
/** msgpack: bytes, whose count follows in 1, 2 or 4 bytes. */
const countBytesOf: Readonly<Record<number, 1 | 2 | 4>> = { 0xc4: 1, 0xc5: 2, 0xc6: 4 };
const headBytesMax = lengthBytes + dataStart.length + 1 + 4;

/** What comes before the bytes of a message `data`. */
export function dataHead(bytes: number): Buffer {
  const head = Buffer.allocUnsafe(headBytesMax);
  head.writeUInt32BE(headBytesMax - lengthBytes + bytes, 0);
  dataStart.copy(head, lengthBytes);
  head.writeUInt8(0xc6, headBytesMax - 5);
  head.writeUInt32BE(bytes, headBytesMax - 4);
  return head;
}

/**
 * Makes a function that takes the pieces that a socket reads, and returns the messages. A message `data` comes in
 * parts. It holds at most one frame of another kind.
 */
export function createStreamDecoder(frameBytesMax: number): (piece: Buffer) => unknown[] {
  let rest: Buffer | null = null;
  let dataLeft = 0;
  return (piece) => {
    const messages: unknown[] = [];
    let buffer = rest === null ? piece : Buffer.concat([rest, piece]);
    rest = null;
    while (buffer.length > 0) {
      if (dataLeft > 0) {
        const part = buffer.subarray(0, dataLeft);
        messages.push(['data', part]);
        dataLeft -= part.length;
        buffer = buffer.subarray(part.length);
        continue;
      }
      const frame = readFrame(buffer, frameBytesMax);
      if (frame === null) {
        rest = buffer;
        break;
      }
      dataLeft = frame.dataBytes;
      if (frame.dataBytes === 0) messages.push(unpack(buffer.subarray(lengthBytes, frame.end)));
      buffer = buffer.subarray(frame.end);
    }
    return messages;
  };
}

/**
 * Null while the frame is not complete.
 * @returns where the frame ends, or where its `dataBytes` begin
 * @throws FrameError
 */
function readFrame(buffer: Buffer, frameBytesMax: number): { readonly end: number; readonly dataBytes: number } | null {
  if (buffer.length < lengthBytes) return null;
  const bodyBytes = buffer.readUInt32BE(0);
  if (bodyBytes > frameBytesMax) throw new FrameError(`frame of ${bodyBytes} bytes announced`);
  const end = lengthBytes + bodyBytes;
  if (buffer.length < Math.min(end, headBytesMax)) return null;
  const countAt = lengthBytes + dataStart.length;
  if (end > countAt && dataStart.equals(buffer.subarray(lengthBytes, countAt))) {
    const countBytes = countBytesOf[buffer[countAt] ?? 0];
    const bytesAt = countAt + 1 + (countBytes ?? 0);
    if (countBytes === undefined || end < bytesAt || buffer.readUIntBE(countAt + 1, countBytes) !== end - bytesAt)
      throw new FrameError('a message without its bytes');
    if (end > bytesAt) return { end: bytesAt, dataBytes: end - bytesAt };
  }
  return buffer.length < end ? null : { end, dataBytes: 0 };
}
