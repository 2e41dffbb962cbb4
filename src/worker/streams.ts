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
import type { Logger } from '../shared/observe/log.ts';

/** Runs one operation on its stream. An error that it throws is sent to the client. */
export type RunOperation = (operation: StreamOperation, stream: ByteStream) => Promise<void>;

export interface Streams {
  /**
   * Makes a token. It expires after limits.streamTokenMs.
   * @throws TOO_MANY_REQUESTS when limits.streamTokensMax tokens have not been used yet
   */
  grant(operation: StreamOperation): StreamGrant;
  /** The number of connections that are open now. */
  readonly openCount: number;
}

interface Granted {
  readonly operation: StreamOperation;
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

  function useToken(token: string): StreamOperation {
    const entry = unusedTokens.get(token);
    if (entry === undefined) throw new BoxRunError('FORBIDDEN', 'the token of the stream is unknown, used or too old');
    unusedTokens.delete(token);
    clearTimeout(entry.expiry);
    return entry.operation;
  }

  async function serve(socket: Socket): Promise<void> {
    const { token, stream } = await acceptStream(socket);
    try {
      await run(useToken(token), stream);
      await stream.end();
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
    grant(operation) {
      if (unusedTokens.size >= limits.streamTokensMax)
        throw new BoxRunError('TOO_MANY_REQUESTS', 'too many streams wait to be opened');
      const token = randomBytes(24).toString('base64url');
      const expiry = setTimeout(() => unusedTokens.delete(token), limits.streamTokenMs);
      unusedTokens.set(token, { operation, expiry });
      return { socketPath, token };
    },
  };
}
