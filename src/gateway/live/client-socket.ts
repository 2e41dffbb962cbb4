// A client behind a WebSocket, as the code sees it that serves the client. web-socket.ts makes it.
// Its sender waits for a client that reads slowly, and the client waits for a slow receiver of its messages.
import type { AttachOutput, PortMessage } from '../../shared/api.ts';

export interface WebSocketMessage {
  readonly data: Buffer;
  readonly isBinary: boolean;
}

/** One connection to a client. It reads one message at a time, so that a slow receiver of messages slows the client. */
export interface ClientSocket {
  /** Sends a binary frame. Resolves when the connection has room for more. */
  send(data: Uint8Array): Promise<void>;
  /** As `send`, but sends a text frame with a JSON message, such as the exit code or output on stderr. */
  sendMessage(word: AttachOutput | PortMessage): Promise<void>;
  /** Gives each message to `take`, and the next one when `take` has resolved. Reads nothing before this call. */
  onMessage(take: (message: WebSocketMessage) => Promise<void>): void;
  /** Sends the error to the client and closes the connection. */
  fail(error: unknown): void;
  close(): void;
  /** Aborts when the connection is closed. */
  readonly gone: AbortSignal;
}
