// Connections to ports of boxes, and local ports that lead to them, for Node. A connection is the connection of an HTTP
// request whose protocol has been changed to `tcp`. Its two directions end by themselves.
import { request as requestHttp, type IncomingMessage } from 'node:http';
import { connect, createServer, isIP, type AddressInfo, type Server, type Socket } from 'node:net';
import { BoxRunError, errorText } from '../shared/errors.ts';
import { errorOfAnswer } from './errors.ts';
import type { LocalListener, LocalListenOptions, PlatformPorts } from './platform.ts';

export interface NodePortsOptions {
  /** URL of the server, without a slash at its end. */
  readonly base: string;
  /** Unix socket of the server; over TCP when absent. */
  readonly socketPath?: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

/** Local connections of one local port. Further ones are closed at once. */
const localConnectionsMax = 1_024;

export function createNodePorts({ base, socketPath, headers }: NodePortsOptions): PlatformPorts {
  async function dial(): Promise<Socket> {
    if (socketPath !== undefined) return connect({ path: socketPath, allowHalfOpen: true });
    const { protocol, hostname, port } = new URL(base);
    const host = hostname.replace(/^\[|\]$/g, '');
    if (protocol !== 'https:') return connect({ host, port: Number(port || 80), allowHalfOpen: true, noDelay: true });
    const { connect: connectSecurely } = await import('node:tls');
    const servername = isIP(host) === 0 ? { servername: host } : {};
    return connectSecurely({ host, port: Number(port || 443), allowHalfOpen: true, ...servername } as object);
  }

  return {
    async connect(path, signal) {
      const socket = await dial();
      const sent = requestHttp(`${base.replace(/^https:/, 'http:')}${path}`, {
        createConnection: () => socket,
        headers: { ...headers, connection: 'upgrade', upgrade: 'tcp' },
        ...(signal === undefined ? {} : { signal }),
      });
      return new Promise((resolve, reject) => {
        sent.on('error', reject);
        sent.on('response', (answer) => {
          readText(answer).then((text) => {
            reject(errorOfAnswer(answer.statusCode ?? 0, text));
          }, reject);
        });
        sent.on('upgrade', (_answer, _socket, head) => {
          if (head.length > 0) socket.unshift(head);
          const onAbort = () => socket.destroy();
          signal?.addEventListener('abort', onAbort, { once: true });
          socket.once('close', () => signal?.removeEventListener('abort', onAbort));
          resolve(socket);
        });
        sent.end();
      });
    },
    listen,
  };
}

async function readText(answer: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of answer) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString('utf8');
}

async function listen({ address, port, connect: open, onError }: LocalListenOptions): Promise<LocalListener> {
  const locals = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (local) => {
    locals.add(local);
    local.once('close', () => locals.delete(local));
    local.on('error', () => undefined); // 'close' follows.
    open().then(
      (remote) => {
        join(local, remote as Socket);
      },
      (error: unknown) => {
        local.resetAndDestroy();
        onError(error);
      },
    );
  });
  server.maxConnections = localConnectionsMax;
  await listening(server, address, port);
  return {
    address,
    port: (server.address() as AddressInfo).port,
    async close() {
      const closed = new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
      });
      for (const local of locals) local.destroy();
      await closed;
    },
  };
}

function listening(server: Server, address: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      reject(
        new BoxRunError('UNAVAILABLE', `cannot listen on ${address}, port ${port}: ${errorText(error)}`, {
          hint: 'choose another local port or address',
          cause: error,
        }),
      );
    });
    server.listen({ host: address, port }, resolve);
  });
}

/** Carries the bytes both ways. If one side breaks, the other side breaks too. */
function join(local: Socket, remote: Socket): void {
  for (const [one, other] of [
    [local, remote],
    [remote, local],
  ] as const) {
    one.on('error', () => undefined); // 'close' follows.
    one.once('close', (hadError) => {
      if (!hadError && one.readableEnded && one.writableFinished) return;
      if (other === local) local.resetAndDestroy();
      else other.destroy();
    });
    one.pipe(other);
  }
  if (local.destroyed) remote.destroy();
}
