// The streams of bytes to this worker's box, on a socket of their own. `grant` makes a token for one operation. A
// client that shows the token opens one stream, and the operation runs on that stream. A token is valid once, and
// expires.
import { randomBytes } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import type { StreamGrant, StreamOperation } from '../shared/contracts/worker.ts';
import { BoxRunError, toBoxRunError } from '../shared/errors.ts';
import { listenAt } from '../shared/ipc/socket.ts';
import { acceptStream, type ByteStream } from '../shared/ipc/stream.ts';
import { limits } from '../shared/limits.ts';
import { withDeadline } from '../shared/waiting/clock.ts';
import type { Logger } from '../shared/observe/log.ts';

/** Runs one operation on its stream. An error that it throws is sent to the client. */
export type RunOperation = (operation: StreamOperation, stream: ByteStream) => Promise<void>;

export interface Streams {
  /**
   * Makes a token. It expires after limits.streamTokenMs.
   * @throws TOO_MANY_REQUESTS when limits.streamTokensMax tokens have not been used yet
   */
  grant(operation: StreamOperation): StreamGrant;
  /** Makes a token for a connection that carries plain bytes. `socket` rejects if nobody opens it in time. */
  handOver(): HandOver;
  /** The number of connections that are open now. */
  readonly openCount: number;
}

/** A connection that the client opens besides its stream. */
export interface HandOver {
  readonly grant: StreamGrant;
  /** Nothing has been read from it but the token. */
  readonly socket: Promise<Socket>;
}

interface Granted {
  /** What to do with the stream that a client opens. */
  readonly serve: (stream: ByteStream) => Promise<void>;
  readonly expiry: NodeJS.Timeout;
}

/**
 * Reads and ignores the rest of the client's bytes. A client that still sends reads the error only after its own bytes
 * have been taken; then it closes the stream. After limits.connectTimeoutMs the worker closes it.
 */
async function ignoreInput(stream: ByteStream): Promise<void> {
  const timer = setTimeout(() => {
    stream.close();
  }, limits.connectTimeoutMs);
  try {
    while ((await stream.next()) !== null);
  } catch {
    // The client has closed the stream.
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Listens at `socketPath`.
 * @param run runs the operation of each stream that a client opens
 */
export async function createStreams(socketPath: string, log: Logger, run: RunOperation): Promise<Streams> {
  const unusedTokens = new Map<string, Granted>();
  let openCount = 0;

  function useToken(token: string): Granted['serve'] {
    const entry = unusedTokens.get(token);
    if (entry === undefined) throw new BoxRunError('FORBIDDEN', 'the token of the stream is unknown, used or too old');
    unusedTokens.delete(token);
    clearTimeout(entry.expiry);
    return entry.serve;
  }

  async function serve(socket: Socket): Promise<void> {
    const { token, stream } = await acceptStream(socket);
    try {
      await useToken(token)(stream);
    } catch (error) {
      const known = toBoxRunError(error);
      if (known.status >= 500 && known.code !== 'UNAVAILABLE')
        log.error({ err: error }, 'a stream failed unexpectedly');
      await stream.fail(known);
      await ignoreInput(stream);
    } finally {
      stream.finish();
    }
  }

  const server = createServer((socket) => {
    if (openCount >= limits.streamsOpenMax) {
      socket.destroy();
      return;
    }
    openCount++;
    serve(socket)
      .catch((error: unknown) => {
        log.warn({ err: error }, 'the connection of a stream broke');
        socket.destroy();
      })
      .finally(() => {
        openCount--;
      });
  });
  await listenAt(server, socketPath);
  return {
    get openCount() {
      return openCount;
    },
    grant: (operation) =>
      addToken(async (stream) => {
        await run(operation, stream);
        await stream.end();
      }),
    handOver() {
      let take: (socket: Socket) => void = () => undefined;
      const opened = new Promise<Socket>((resolve) => {
        take = resolve;
      });
      const grant = addToken((stream) => {
        take(stream.release());
        return Promise.resolve();
      });
      const socket = withDeadline(opened, limits.streamTokenMs, 'the connection for the bytes');
      socket.catch(() => undefined); // The caller may have given up meanwhile.
      return { grant, socket };
    },
  };

  function addToken(serve: Granted['serve']): StreamGrant {
    if (unusedTokens.size >= limits.streamTokensMax)
      throw new BoxRunError('TOO_MANY_REQUESTS', 'too many streams wait to be opened');
    const token = randomBytes(24).toString('base64url');
    const expiry = setTimeout(() => unusedTokens.delete(token), limits.streamTokenMs);
    unusedTokens.set(token, { serve, expiry });
    return { socketPath, token };
  }
}
