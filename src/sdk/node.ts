// The platform of Node: TCP and Unix sockets, local files, and where a server is found. Together with http-client.ts
// this is everything of the SDK that knows Node.
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { defaultSocket } from '../shared/settings/socket-place.ts';
import { createHttpClient } from './http-client.ts';
import type { LocalFiles, Platform } from './platform.ts';

/** Where a server is: a Unix socket, or the URL of a TCP address, with the token that the server asks for there. */
export type ServerAddress =
  | { readonly socketPath: string; readonly url?: undefined }
  | { readonly url: string; readonly token?: string | undefined; readonly socketPath?: undefined };

// A server at work sends something every few seconds, so this is a time of silence.
const silenceTimeoutMs = 60_000;

export function createNodePlatform(server: ServerAddress): Platform {
  // The host of a Unix socket is nobody's; servers know this name.
  const base = server.socketPath === undefined ? server.url.replace(/\/+$/, '') : 'http://localhost';
  const token = server.socketPath === undefined ? server.token : undefined;
  const authorization = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const http = createHttpClient({ base, socketPath: server.socketPath, silenceTimeoutMs });
  return {
    base,
    address: server.socketPath ?? base,
    files: localFiles,
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

const localFiles: LocalFiles = {
  read: (path) => createReadStream(path, { highWaterMark: 256 * 1024 }),
  async write(path, content) {
    await mkdir(dirname(path), { recursive: true });
    const partial = `${path}.${process.pid}.part`;
    try {
      await pipeline(Readable.from(content), createWriteStream(partial, { flags: 'wx' }));
      await rename(partial, path);
    } catch (error) {
      await rm(partial, { force: true });
      throw error;
    }
  },
};

/**
 * Where a server of this user is expected, by the variables that `boxrun` knows too: BOXRUN_SOCKET; BOXRUN_HOST and
 * BOXRUN_PORT; else the socket of BOXRUN_STATE_DIR (~/.boxrun) where it exists, which is in /tmp for a directory with a
 * long path; else
 * 127.0.0.1:9090. With BOXRUN_TOKEN, by TCP.
 */
export function findServer(env: Readonly<Record<string, string | undefined>> = process.env): ServerAddress {
  const given = (name: string) => (env[name] === '' ? undefined : env[name]);
  const socketPath = given('BOXRUN_SOCKET');
  if (socketPath !== undefined) return { socketPath };
  const host = given('BOXRUN_HOST');
  const port = given('BOXRUN_PORT');
  const usualSocket = defaultSocket(resolve(given('BOXRUN_STATE_DIR') ?? join(homedir(), '.boxrun')));
  if (host === undefined && port === undefined && existsSync(usualSocket)) return { socketPath: usualSocket };
  const name = host ?? '127.0.0.1';
  const token = given('BOXRUN_TOKEN');
  return {
    url: `http://${name.includes(':') ? `[${name}]` : name}:${port ?? '9090'}`,
    ...(token === undefined ? {} : { token }),
  };
}
