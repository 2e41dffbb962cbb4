// Converts between streams, iterables and arrays of bytes, on Node and in browsers.
// It never reads ahead: it takes the next piece from a source only when the reader wants it.
import { BoxRunError } from '../shared/errors.ts';
import type { PlatformBody } from './platform.ts';

/**
 * The pieces of `body`.
 * @param silenceMs longest time without a piece, in milliseconds; no bound when absent
 * @throws UNAVAILABLE after that time
 */
export async function* readChunks(
  body: PlatformBody | null,
  silenceMs?: number,
): AsyncGenerator<Uint8Array, void, void> {
  if (body === null) return;
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await (silenceMs === undefined ? reader.read() : withinSilence(reader.read(), silenceMs));
      if (done === true || value === undefined) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

async function withinSilence<T>(read: Promise<T>, silenceMs: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new BoxRunError('UNAVAILABLE', `the server sent nothing for ${silenceMs} ms`));
    }, silenceMs);
  });
  try {
    return await Promise.race([read, silence]);
  } finally {
    clearTimeout(timer);
  }
}

/** A stream that takes a piece from `source` only when its reader wants one. */
export function streamOf(source: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const next = await iterator.next();
        if (next.done === true) controller.close();
        else controller.enqueue(next.value);
      },
      async cancel() {
        await iterator.return?.();
      },
    },
    { highWaterMark: 0 },
  );
}

export function joinBytes(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((length, piece) => length + piece.byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}
