// A minimal HTTP client over a Unix socket or a port of this host. It does as little work as possible, so that only the
// server is measured: one request at a time per connection, and answers only with a content-length. Of an output stream
// it only checks the size and the end.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

export interface Connection {
  request(method: string, path: string, body?: string): Promise<Answer>;
  close(): void;
}

/** The path of a Unix socket, or a port of this host. */
export type Address = string | number;

const headEnd = Buffer.from('\r\n\r\n');

interface OpenSocket {
  readonly socket: Socket;
  waiting: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | null;
}

/** Opens a connection. If the server closes it while it is idle, the next request opens a new one. */
export async function openConnection(address: Address): Promise<Connection> {
  let open = await openSocket(address);
  return {
    async request(method, path, body = '') {
      if (open.socket.destroyed || open.socket.readableEnded) open = await openSocket(address);
      const { socket } = open;
      const head = `${method} ${path} HTTP/1.1\r\nhost: localhost\r\n`;
      const rest =
        body === ''
          ? '\r\n'
          : `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
      return new Promise((resolve, reject) => {
        open.waiting = { resolve, reject };
        socket.write(head + rest);
      });
    },
    close: () => open.socket.destroy(),
  };
}

async function openSocket(address: Address): Promise<OpenSocket> {
  const open: OpenSocket = { socket: await connectTo(address), waiting: null };
  let received: Buffer = Buffer.alloc(0);
  open.socket.on('data', (piece: Buffer) => {
    received = received.length === 0 ? piece : Buffer.concat([received, piece]);
    for (let parsed = parseAnswer(received); parsed !== null; parsed = parseAnswer(received)) {
      received = received.subarray(parsed.length);
      if (parsed.status < 200) continue;
      open.waiting?.resolve(parsed);
      open.waiting = null;
    }
  });
  open.socket.on('close', () => open.waiting?.reject(new Error('the server closed the connection')));
  open.socket.on('error', (error) => open.waiting?.reject(error));
  return open;
}

export async function openConnections(address: Address, count: number): Promise<Connection[]> {
  return Promise.all(Array.from({ length: count }, () => openConnection(address)));
}

interface ParsedAnswer extends Answer {
  readonly length: number;
}

function parseAnswer(received: Buffer): ParsedAnswer | null {
  const end = received.indexOf(headEnd);
  if (end < 0) return null;
  const head = received.toString('latin1', 0, end);
  const status = Number(head.slice(9, 12));
  const bodyBytes = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
  const length = end + headEnd.length + bodyBytes;
  if (received.length < length) return null;
  return { status, length, body: received.subarray(end + headEnd.length, length) };
}

/** Sends a request and parses the answer as JSON. @throws for a status from 300 on */
export async function callJson<T>(connection: Connection, method: string, path: string, body?: unknown): Promise<T> {
  const { status, body: bytes } = await connection.request(
    method,
    path,
    body === undefined ? '' : JSON.stringify(body),
  );
  if (status >= 300) throw new Error(`${method} ${path}: ${status} ${bytes.toString()}`);
  return JSON.parse(bytes.toString()) as T;
}

/**
 * Reads an output stream to its end. Resolves with the number of received bytes.
 * @throws when it ends without an exit event
 */
export async function drainStream(address: Address, path: string): Promise<number> {
  const socket = await connectTo(address);
  let bytes = 0;
  let tail: Buffer = Buffer.alloc(0);
  socket.on('data', (piece: Buffer) => {
    bytes += piece.length;
    tail = piece.length >= tailBytes ? piece : Buffer.concat([tail, piece]).subarray(-tailBytes);
  });
  const closed = once(socket, 'close');
  socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`);
  await closed;
  if (!tail.includes('event: exit'))
    throw new Error(`${path} ended after ${bytes} bytes without an exit event: ${tail.toString()}`);
  return bytes;
}

const tailBytes = 1024;

async function connectTo(address: Address): Promise<Socket> {
  const socket = typeof address === 'number' ? connect(address, '127.0.0.1') : connect(address);
  socket.setNoDelay(true);
  await once(socket, 'connect');
  return socket;
}
