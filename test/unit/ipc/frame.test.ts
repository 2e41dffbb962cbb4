// Tests frames. The same messages are decoded for any pieces of the stream, and a frame that breaks a rule is refused
// at once.
import { describe, expect, it } from 'vitest';
import { createFrameDecoder, encodeFrame, FrameError } from '../../../src/shared/ipc/frame.ts';
import { limits } from '../../../src/shared/limits.ts';
import { createRandom, type Random } from '../../support/runs/random.ts';
import { cutAtRandom } from '../../support/runs/unit.ts';

function randomValue(random: Random, depth = 0): unknown {
  const kinds = ['null', 'number', 'text', 'bytes', 'boolean', ...(depth < 3 ? ['list', 'map'] : [])];
  switch (random.pick(kinds)) {
    case 'number':
      return random.pick([0, -1, 2 ** 31, 2 ** 40, 0.5, random.whole(-1000, 1000)]);
    case 'text':
      return 'aé€😀\u0000"'.repeat(random.whole(0, 40));
    case 'bytes':
      return random.bytes(random.whole(0, 3000));
    case 'boolean':
      return random.pick([true, false]);
    case 'list':
      return Array.from({ length: random.whole(0, 5) }, () => randomValue(random, depth + 1));
    case 'map':
      return Object.fromEntries(
        Array.from({ length: random.whole(0, 4) }, (_, index) => [`k${index}`, randomValue(random, depth + 1)]),
      );
    default:
      return null;
  }
}

function decodeAll(pieces: readonly Buffer[]): unknown[] {
  const decode = createFrameDecoder();
  return pieces.flatMap((piece) => decode(Buffer.from(piece)));
}

describe('a frame', () => {
  it('is decoded to the same message for any pieces of the stream', () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = createRandom(seed);
      const messages = Array.from({ length: random.whole(1, 12) }, () => randomValue(random));
      const stream = Buffer.concat(messages.map(encodeFrame));
      const longest = random.pick([1, 3, 7, 100, 5000, stream.length]);
      expect(decodeAll(cutAtRandom(stream, random, longest)), `seed ${seed}`).toEqual(messages);
    }
  });

  it('is decoded after a cut at every place, also inside the header', () => {
    const messages = [{ a: 1 }, 'zwei', [3, null]];
    const stream = Buffer.concat(messages.map(encodeFrame));
    for (let at = 0; at <= stream.length; at++) {
      expect(decodeAll([stream.subarray(0, at), stream.subarray(at)])).toEqual(messages);
    }
  });

  it('is independent of earlier ones, so a new decoder understands it', () => {
    const first = encodeFrame({ name: 'x', value: 1 });
    const second = encodeFrame({ name: 'y', value: 2 });
    expect(decodeAll([first])).toEqual([{ name: 'x', value: 1 }]);
    expect(decodeAll([second])).toEqual([{ name: 'y', value: 2 }]);
  });

  it('keeps bytes as bytes', () => {
    const bytes = Buffer.from([0, 0xff, 0xc3, 0x28, 0x80]);
    const [message] = decodeAll([encodeFrame({ data: bytes })]) as [{ data: Uint8Array }];
    expect(message.data).toBeInstanceOf(Uint8Array);
    expect(Buffer.from(message.data).equals(bytes)).toBe(true);
  });

  it('may have the longest length, and arrive in small pieces after a header in two parts', () => {
    const body = Buffer.alloc(limits.frameBytesMax - 5, 7);
    const frame = encodeFrame(body);
    const pieces = [
      frame.subarray(0, 1),
      ...Array.from({ length: Math.ceil(frame.length / 65_536) }, (_, index) =>
        frame.subarray(1 + index * 65_536, 1 + (index + 1) * 65_536),
      ),
    ];
    const [message] = decodeAll(pieces) as [Uint8Array];
    expect(Buffer.from(message).equals(body)).toBe(true);
  });

  it('is refused by the sender if it is too long', () => {
    expect(() => encodeFrame(Buffer.alloc(limits.frameBytesMax + 1))).toThrow(FrameError);
  });

  it('is refused with its header if it announces too many bytes, before any are kept', () => {
    const header = Buffer.alloc(4);
    header.writeUInt32BE(limits.frameBytesMax + 1);
    expect(() => createFrameDecoder()(header)).toThrow(FrameError);
  });

  it('is refused with a FrameError if it does not parse', () => {
    for (let seed = 1; seed <= 300; seed++) {
      const random = createRandom(seed);
      const body = random.bytes(random.whole(0, 60));
      const header = Buffer.alloc(4);
      header.writeUInt32BE(body.length);
      try {
        createFrameDecoder()(Buffer.concat([header, body]));
      } catch (error) {
        expect(error, `seed ${seed}`).toBeInstanceOf(FrameError);
      }
    }
  });

  it('is refused if there are bytes after its message', () => {
    const header = Buffer.alloc(4);
    header.writeUInt32BE(2);
    expect(() => createFrameDecoder()(Buffer.concat([header, Buffer.from([1, 2])]))).toThrow(FrameError);
  });
});
