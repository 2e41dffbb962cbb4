// The platform for Node: TCP and Unix sockets, local files, and how a server is found.
// Only this file, http-client.ts, local-*.ts and index.ts use Node; all other files of the SDK also work in browsers.
import { createReadStream, existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { defaultSocket } from '../shared/settings/socket-place.ts';
import { createHttpClient } from './http-client.ts';
import { writeLocalFile } from './local-write.ts';
import type { NodePortsOptions } from './node-ports.ts';
import type { LocalFiles, Platform, PlatformPorts } from './platform.ts';

/** Where a server is: a Unix socket, or a URL for TCP, with the token if the server needs one. */
export type ServerAddress =
  | { readonly socketPath: string; readonly url?: undefined }
  | { readonly url: string; readonly token?: string | undefined; readonly socketPath?: undefined };

/**
 * In milliseconds. A working server sends something at least every 15 s, so a longer silence means a lost connection.
 */
const silenceTimeoutMs = 60_000;

export function createNodePlatform(server: ServerAddress): Platform {
  // A request over a Unix socket needs a host name too. The server accepts this one.
  const base = server.socketPath === undefined ? server.url.replace(/\/+$/, '') : 'http://localhost';
  const token = server.socketPath === undefined ? server.token : undefined;
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const http = createHttpClient({ base, socketPath: server.socketPath, silenceTimeoutMs });
  return {
    base,
    address: server.socketPath ?? base,
    files: localFiles,
    ports: lazyPorts({ base, socketPath: server.socketPath, headers: authorization }),
    streamsRequests: true,
    fetch: (url, request) => http.fetch(url, { ...request, headers: { ...request.headers, ...authorization } }),
    async openWebSocket(url) {
      const { WebSocket } = await import('ws');
      return new WebSocket(url, {
        headers: authorization,
        perMessageDeflate: false,
        ...(server.socketPath === undefined ? {} : { createConnection: () => connect(server.socketPath) }),
      });
    },
    bytesOfBase64: (text) => Buffer.from(text, 'base64'),
    async close() {
      http.close();
    },
  };
}

/** Few programs need it, so it is loaded at its first use. */
function lazyPorts(options: NodePortsOptions): PlatformPorts {
  const load = async () => (await import('./node-ports.ts')).createNodePorts(options);
  return {
    connect: async (path, signal) => (await load()).connect(path, signal),
    listen: async (listenOptions) => (await load()).listen(listenOptions),
  };
}

const localFiles: LocalFiles = {
  read: (path) => createReadStream(path, { highWaterMark: 256 * 1024 }),
  write: writeLocalFile,
  async *pack(path, options) {
    const { packDirectory } = await import('./local-tar.ts');
    yield* packDirectory(path, options);
  },
  async unpack(path, archive, signal) {
    const { unpackInto } = await import('./local-tar.ts');
    await mkdir(path, { recursive: true });
    await unpackInto(path, archive, signal);
  },
};

/**
 * Finds the server from the same variables as the command `boxrun`, in this order:
 * 1. the socket BOXRUN_SOCKET;
 * 2. BOXRUN_HOST and BOXRUN_PORT, if one of them is set;
 * 3. the socket of the state directory BOXRUN_STATE_DIR (~/.boxrun), if it exists. It lies in /tmp if the path of the
 *    directory is too long for a socket;
 * 4. 127.0.0.1:9090.
 * Over TCP, the client sends BOXRUN_TOKEN.
 */
export function findServer(env: Readonly<Record<string, string | undefined>> = process.env): ServerAddress {
  const valueOf = (name: string) => (env[name] === '' ? undefined : env[name]);
  const socketPath = valueOf('BOXRUN_SOCKET');
  if (socketPath !== undefined) return { socketPath };
  const host = valueOf('BOXRUN_HOST');
  const port = valueOf('BOXRUN_PORT');
  const stateSocket = defaultSocket(resolve(valueOf('BOXRUN_STATE_DIR') ?? join(homedir(), '.boxrun')));
  if (host === undefined && port === undefined && existsSync(stateSocket)) return { socketPath: stateSocket };
  const name = host ?? '127.0.0.1';
  const token = valueOf('BOXRUN_TOKEN');
  return {
    url: `http://${name.includes(':') ? `[${name}]` : name}:${port ?? '9090'}`,
    ...(token === undefined ? {} : { token }),
  };
}
