// Streams of bytes to this worker's box: hands out one-time tokens, and runs what a token stands for when it is shown.
// Its socket is beside the worker's own; process.ts makes it, box-runner.ts says what the operations do. A token is
// used up by its connection.
import { randomBytes } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import type { StreamGrant, StreamOperation } from '../shared/contracts/worker.ts';
import { BoxRunError, toBoxRunError } from '../shared/errors.ts';
import { listenAt } from '../shared/ipc/socket.ts';
import { acceptStream, type ByteStream } from '../shared/ipc/stream.ts';
import { limits } from '../shared/limits.ts';
import type { Logger } from '../shared/observe/log.ts';

/** Does what the stream is for; what it throws goes to the other side. */
export type RunOperation = (operation: StreamOperation, stream: ByteStream) => Promise<void>;

export interface Streams {
  /** @throws TOO_MANY_REQUESTS past limits.streamTokensMax */
  grant(operation: StreamOperation): StreamGrant;
  /** Streams under way. */
  readonly openCount: number;
}

interface Granted {
  readonly operation: StreamOperation;
  readonly expiry: NodeJS.Timeout;
}

/** A client that is still sending hears of the failure only when what it has sent is taken, and then leaves. */
async function takeInVain(stream: ByteStream): Promise<void> {
  const timer = setTimeout(() => {
    stream.close();
  }, limits.connectTimeoutMs);
  try {
    while ((await stream.next()) !== null);
  } catch {
    // It is gone.
  } finally {
    clearTimeout(timer);
  }
}

/** Listens at `socketPath`. */
export async function createStreams(socketPath: string, log: Logger, run: RunOperation): Promise<Streams> {
  const granted = new Map<string, Granted>();
  let openCount = 0;

  function redeem(token: string): StreamOperation {
    const entry = granted.get(token);
    if (entry === undefined) throw new BoxRunError('FORBIDDEN', 'the token of the stream is unknown, used or too old');
    granted.delete(token);
    clearTimeout(entry.expiry);
    return entry.operation;
  }

  async function serve(socket: Socket): Promise<void> {
    const { token, stream } = await acceptStream(socket);
    try {
      await run(redeem(token), stream);
      await stream.end();
    } catch (error) {
      const known = toBoxRunError(error);
      if (known.status >= 500 && known.code !== 'UNAVAILABLE')
        log.error({ err: error }, 'a stream failed unexpectedly');
      await stream.fail(known);
      await takeInVain(stream);
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
        log.warn({ err: error }, 'a stream ended before it began');
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
      if (granted.size >= limits.streamTokensMax)
        throw new BoxRunError('TOO_MANY_REQUESTS', 'too many streams wait to be opened');
      const token = randomBytes(24).toString('base64url');
      const expiry = setTimeout(() => granted.delete(token), limits.streamTokenMs);
      granted.set(token, { operation, expiry });
      return { socketPath, token };
    },
  };
}
