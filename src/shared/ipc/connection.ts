// One side of an IPC connection: it sends messages, receives messages and reports its end. All messages of one turn of
// the event loop become one write. A message that does not parse ends the connection, never the process.
import type { Socket } from 'node:net';
import { createFrameDecoder, encodeFrame } from './frame.ts';
import { parseWireMessage, type WireMessage } from './wire.ts';

export interface Connection {
  send(message: WireMessage): void;
  /** Bytes that wait to be sent. */
  bufferedBytes(): number;
  /** Ends the connection at once. `reason` is for the log. */
  close(reason: string): void;
  readonly isOpen: boolean;
  /** Resolves with the reason when the connection has ended. */
  readonly closed: Promise<string>;
}

/** Makes a connection from a connected socket. If `onMessage` throws, the connection ends. */
export function createConnection(socket: Socket, onMessage: (message: WireMessage) => void): Connection {
  const decode = createFrameDecoder();
  let outgoing: Buffer[] = [];
  let outgoingBytes = 0;
  let open = true;
  let announceClosed: (reason: string) => void = () => undefined;
  const closed = new Promise<string>((resolve) => {
    announceClosed = resolve;
  });

  const close = (reason: string) => {
    if (!open) return;
    open = false;
    outgoing = [];
    socket.destroy();
    announceClosed(reason);
  };
  const flush = () => {
    if (!open) return;
    socket.write(outgoing.length === 1 ? (outgoing[0] as Buffer) : Buffer.concat(outgoing, outgoingBytes));
    outgoing = [];
    outgoingBytes = 0;
  };
  socket.on('data', (piece: Buffer) => {
    try {
      for (const value of decode(piece)) {
        if (!open) return;
        const message = parseWireMessage(value);
        if (message === null) {
          close('a message of unknown form');
          return;
        }
        onMessage(message);
      }
    } catch (error) {
      close(String(error));
    }
  });
  socket.on('error', (error) => {
    close(error.message);
  });
  socket.on('close', () => {
    close('the other side closed it');
  });

  return {
    send(message) {
      if (!open) return;
      const frame = encodeFrame(message);
      outgoing.push(frame);
      outgoingBytes += frame.length;
      if (outgoing.length === 1) setImmediate(flush);
    },
    bufferedBytes: () => socket.writableLength + outgoingBytes,
    close,
    get isOpen() {
      return open;
    },
    closed,
  };
}
