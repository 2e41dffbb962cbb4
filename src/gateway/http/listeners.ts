// The TCP address and the Unix socket on which the gateway accepts clients. Both serve the same HTTP application.
// The gateway never replaces a Unix socket on which another server answers. It removes its own socket file when it
// stops.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { stat, unlink } from 'node:fs/promises';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { sleep } from '../../shared/waiting/clock.ts';
import { BoxRunError, errorText } from '../../shared/errors.ts';
import { connectTo, listenAt } from '../../shared/ipc/socket.ts';
import { limits } from '../../shared/limits.ts';

export interface ListenOptions {
  /** Port 0 lets the system choose one. */
  readonly tcp: { readonly host: string; readonly port: number } | null;
  readonly socketPath: string | null;
  readonly handle: (request: IncomingMessage, response: ServerResponse) => void;
  /** Called with each request that asks for another protocol on its connection. */
  readonly upgrade?: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** Called with each new connection, before its first request. */
  readonly onConnection?: (socket: Socket) => void;
  /** Called with each new connection to the Unix socket, before its first request. */
  readonly onLocalConnection: (socket: Socket) => void;
}

export interface Listeners {
  /** The TCP address with its real port, also if the system chose the port. */
  readonly tcp: { readonly host: string; readonly port: number } | null;
  /** Accepts no new connection. Open requests continue. */
  stop(): Promise<void>;
  /** Waits until the last connection has ended. After `timeoutMs` milliseconds it closes those that are still open. */
  drain(timeoutMs: number): Promise<void>;
}

/**
 * Listens on both addresses. If one of them fails, it listens on neither.
 * @throws UNAVAILABLE when an address is still in use after limits.listenWaitMs, or when `socketPath` is another file
 */
export async function listen({
  tcp,
  socketPath,
  handle,
  upgrade,
  onConnection,
  onLocalConnection,
}: ListenOptions): Promise<Listeners> {
  const servers: Server[] = [];
  const add = (): Server => {
    const server = createServer({ requestTimeout: 0, headersTimeout: 30_000, keepAliveTimeout: 75_000 }, handle);
    server.on('clientError', answerInvalidHttp);
    if (upgrade !== undefined) server.on('upgrade', upgrade);
    if (onConnection !== undefined) server.on('connection', onConnection);
    servers.push(server);
    return server;
  };
  let port: number | null = null;
  let inode: number | null = null;
  try {
    if (tcp !== null) port = await listenTcp(add(), tcp);
    if (socketPath !== null) {
      const server = add();
      server.on('connection', onLocalConnection);
      inode = await listenLocal(server, socketPath);
    }
  } catch (error) {
    for (const server of servers) server.close();
    throw error;
  }
  const closed = () => Promise.all(servers.map((server) => new Promise((resolve) => server.once('close', resolve))));
  let ended: Promise<unknown> = Promise.resolve();
  return {
    tcp: tcp === null || port === null ? null : { host: tcp.host, port },
    async stop() {
      if (socketPath !== null && (await inodeOf(socketPath)) === inode) await unlink(socketPath).catch(() => undefined);
      ended = closed();
      for (const server of servers) {
        server.close();
        server.closeIdleConnections();
      }
    },
    async drain(timeoutMs) {
      await Promise.race([ended, sleep(timeoutMs)]);
      for (const server of servers) server.closeAllConnections();
    },
  };
}

/** The URL at which a browser on this host reaches a server that listens on that address. */
export function urlOf({ host, port }: { readonly host: string; readonly port: number }): string {
  const name = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`;
}

async function listenTcp(server: Server, { host, port }: { host: string; port: number }): Promise<number> {
  const deadline = Date.now() + limits.listenWaitMs;
  for (;;) {
    const problem = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
      server.once('error', resolve);
      server.listen({ host, port }, () => {
        server.off('error', resolve);
        resolve(null);
      });
    });
    if (problem === null) return (server.address() as AddressInfo).port;
    if (problem.code !== 'EADDRINUSE' || Date.now() > deadline) {
      throw new BoxRunError('UNAVAILABLE', `cannot listen on ${host}:${port}: ${errorText(problem)}`, {
        hint: 'another program has that port; choose another one with --port, or BOXRUN_PORT',
      });
    }
    await sleep(50);
  }
}

/** Listens on the Unix socket and gives the inode of its file, so that `stop` removes only the file of this server. */
async function listenLocal(server: Server, path: string): Promise<number | null> {
  const deadline = Date.now() + limits.listenWaitMs;
  while (await answers(path)) {
    if (Date.now() > deadline) {
      throw new BoxRunError('UNAVAILABLE', `another server answers on ${path}`, {
        hint: 'stop it, or choose another socket with --socket, or BOXRUN_SOCKET',
      });
    }
    await sleep(50);
  }
  const found = await stat(path).catch(() => null);
  if (found !== null && !found.isSocket()) {
    throw new BoxRunError('UNAVAILABLE', `${path} exists and is not a socket`, {
      hint: 'choose another path with --socket',
    });
  }
  await listenAt(server, path);
  return inodeOf(path);
}

async function answers(path: string): Promise<boolean> {
  const socket = await connectTo(path).catch(() => null);
  socket?.destroy();
  return socket !== null;
}

async function inodeOf(path: string): Promise<number | null> {
  const found = await stat(path).catch(() => null);
  return found?.ino ?? null;
}

/** Answers bytes that are not HTTP with a 400 or 431 whose body has the usual form of an error. */
function answerInvalidHttp(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const tooLarge = error.code === 'HPE_HEADER_OVERFLOW';
  const status = tooLarge ? '431 Request Header Fields Too Large' : '400 Bad Request';
  const body = JSON.stringify({
    code: 'VALIDATION_ERROR',
    message: tooLarge ? 'the headers are too long' : 'this is no HTTP request',
  });
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
  );
}
