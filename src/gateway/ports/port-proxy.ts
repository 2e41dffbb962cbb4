// The proxy for ports of boxes: a request whose Host names a port goes to that port, and never to the API. Each request
// has a connection of its own to the box, made inside the box. The path below /.boxrun/ belongs to BoxRun: the one-time
// link leads there.
import { request as requestHttp, type ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline, type Duplex } from 'node:stream';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import type { Access } from '../http/access.ts';
import { refuse } from '../http/client-bounds.ts';
import { errorBody, errorHeaders } from '../http/error-handler.ts';
import { carryRaw } from '../live/carried-connection.ts';
import type { GatewayParts } from '../parts.ts';
import { headersForBox, headersForClient } from './passed-headers.ts';
import type { PortGuard } from './port-guard.ts';
import { codePurpose, portLoginPath } from './port-link.ts';
import type { PortName, PortNames } from './port-names.ts';
import { openPort } from './port-stream.ts';

export interface PortProxy {
  /** True for a request that belongs to a port of a box. */
  takes(request: IncomingMessage): boolean;
  handle(request: IncomingMessage, response: ServerResponse): void;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
}

export interface PortProxyDeps {
  readonly parts: Pick<GatewayParts, 'supervisor' | 'places' | 'closing' | 'meters'>;
  readonly names: PortNames;
  readonly guard: PortGuard;
  readonly access: Pick<Access, 'hasToken' | 'withoutOwnCookies' | 'isOwnCookie' | 'newPortCookie'>;
}

const ownPaths = '/.boxrun/';

export function createPortProxy(deps: PortProxyDeps): PortProxy {
  const { parts, names, guard, access } = deps;

  async function pass(request: IncomingMessage, response: ServerResponse, name: PortName): Promise<void> {
    const path = pathOf(request);
    if (path.startsWith(ownPaths)) {
      await login(deps, request, response, name);
      return;
    }
    guard.check(request, name.label);
    const connection = await openPort(parts, { box: name.boxId, port: name.port, host: null });
    if (response.destroyed) {
      connection.destroy();
      return;
    }
    const sent = send(request, connection, headersForBox(request, access, null));
    response.once('close', () => sent.destroy());
    const answer = new Promise<void>((resolve, reject) => {
      sent.once('error', reject);
      sent.once('response', (found) => {
        response.writeHead(found.statusCode ?? 502, found.statusMessage, headersForClient(found, access));
        pipeline(found, response, () => {
          resolve();
        });
      });
    });
    pipeline(request, sent, () => undefined); // The answer has the error, or the client has gone.
    await answer;
  }

  async function passUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, name: PortName): Promise<void> {
    pathOf(request);
    guard.check(request, name.label);
    if (hasBody(request))
      throw new BoxRunError('VALIDATION_ERROR', 'a request for another protocol cannot have a body');
    parts.places.take(request.socket);
    const connection = await openPort(parts, { box: name.boxId, port: name.port, host: null });
    if (socket.destroyed) {
      connection.destroy();
      return;
    }
    const sent = send(request, connection, headersForBox(request, access, request.headers.upgrade ?? ''));
    socket.once('close', () => sent.destroy());
    await new Promise<void>((resolve, reject) => {
      sent.once('error', reject);
      sent.once('upgrade', (answer: IncomingMessage, _connection, rest: Buffer) => {
        const upgraded = ['Connection', 'Upgrade', 'Upgrade', answer.headers.upgrade ?? ''];
        if (rest.length > 0) connection.unshift(rest);
        const headers = [...headersForClient(answer, access), ...upgraded];
        carryRaw(socket, connection, { head, answer: headOf(answer, headers), closing: parts.closing });
        resolve();
      });
      sent.once('response', (answer) => {
        // The box stays with HTTP. Bytes that the client sends later must not reach it unchecked.
        socket.write(headOf(answer, [...headersForClient(answer, access), 'Connection', 'close']));
        pipeline(answer, socket, () => {
          resolve();
        });
      });
      sent.end();
    });
  }

  return {
    takes: ({ headers }) => names.parse(headers.host) !== null,
    handle(request, response) {
      const name = names.parse(request.headers.host);
      if (name === null) return;
      pass(request, response, name).catch((error: unknown) => {
        answerError(request, response, error);
      });
    },
    upgrade(request, socket, head) {
      const name = names.parse(request.headers.host);
      if (name === null) return;
      socket.on('error', () => undefined); // 'close' follows.
      passUpgrade(request, socket, head, name).catch((error: unknown) => {
        refuse(socket, ofBox(error));
      });
    },
  };
}

/** @throws VALIDATION_ERROR for an address that names another host */
function pathOf({ url = '' }: IncomingMessage): string {
  if (url.startsWith('/')) return url;
  throw new BoxRunError('VALIDATION_ERROR', 'the address must be a path', { status: 400 });
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

function send({ method, url }: IncomingMessage, connection: Duplex, headers: string[]): ClientRequest {
  return requestHttp({
    method: method ?? 'GET',
    path: url ?? '/',
    headers,
    setHost: false,
    createConnection: () => connection,
  });
}

/** The head of an answer, for a connection that has no response object. */
function headOf({ statusCode = 502, statusMessage = '' }: IncomingMessage, headers: readonly string[]): string {
  const lines = Array.from({ length: headers.length / 2 }, (_, at) => `${headers[2 * at]}: ${headers[2 * at + 1]}`);
  return `HTTP/1.1 ${statusCode} ${statusMessage}\r\n${lines.join('\r\n')}\r\n\r\n`;
}

/** Sets the cookie for this host name, if the code of the link is valid, and leads to the page. */
async function login(
  { parts, access }: PortProxyDeps,
  request: IncomingMessage,
  response: ServerResponse,
  { label }: PortName,
): Promise<void> {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
  if (pathname !== portLoginPath || request.method !== 'GET')
    throw new BoxRunError('NOT_FOUND', `there is nothing at ${pathname}`);
  const code = searchParams.get('code') ?? '';
  const { valid } = await parts.supervisor.request('redeemUiCode', { code, purpose: codePurpose(label) });
  if (!valid) {
    throw new BoxRunError('FORBIDDEN', 'this link was used already, is too old, or is for another port', {
      hint: '`boxrun url BOX PORT` prints another one',
    });
  }
  response.writeHead(303, {
    'set-cookie': access.newPortCookie(label),
    'cache-control': 'no-store',
    'referrer-policy': 'no-referrer',
    location: '/',
  });
  response.end();
}

/** An answer of the box that is not HTTP, or a connection that breaks, is the fault of the box. */
function ofBox(error: unknown): BoxRunError {
  if (error instanceof BoxRunError) {
    return error.code === 'PORT_NOT_OPEN' || error.code === 'RUNTIME_ERROR' || error.code === 'BOX_NOT_RUNNING'
      ? new BoxRunError(error.code, error.message, {
          status: 502,
          ...(error.hint === undefined ? {} : { hint: error.hint }),
        })
      : error;
  }
  return new BoxRunError('RUNTIME_ERROR', `the process in the box did not answer: ${toBoxRunError(error).message}`, {
    status: 502,
  });
}

/** People get a page, and programs get the usual form of an error. */
function answerError(request: IncomingMessage, response: ServerResponse, thrown: unknown): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const error = ofBox(thrown);
  const wantsPage = /\btext\/html\b/.test(request.headers.accept ?? '');
  const body = wantsPage ? pageOf(error) : JSON.stringify(errorBody(error));
  response.writeHead(error.status, {
    'content-type': `${wantsPage ? 'text/html' : 'application/json'}; charset=utf-8`,
    'content-length': Buffer.byteLength(body),
    'content-security-policy': "default-src 'none'",
    'cache-control': 'no-store',
    connection: 'close', // The rest of the request may not be read.
    ...errorHeaders(error),
  });
  response.end(body);
}

function pageOf({ status, code, message, hint = '' }: BoxRunError): string {
  const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return [
    '<!doctype html><meta charset="utf-8">',
    `<title>${status} ${code}</title><h1>${escaped(message)}</h1><p>${escaped(hint)}</p>`,
    `<p>${status} ${code}, BoxRun</p>\n`,
  ].join('');
}
