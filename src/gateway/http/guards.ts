// Decides which requests over TCP are allowed, so that a foreign page in the user's browser cannot command boxes.
// Host must be a name of this server (a foreign name means DNS rebinding). A request that changes something must not
// come from a page of another origin. If a token is set, each request needs it. The Unix socket is not checked: its
// file mode protects it, and no page can reach it.
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { Config } from '../../shared/settings/config.ts';
import { BoxRunError } from '../../shared/errors.ts';
import type { Access } from './access.ts';

const loopbackNames = ['localhost', '127.0.0.1', '[::1]'];
const wildcardHosts = new Set(['0.0.0.0', '::']);
const readingMethods = new Set(['GET', 'HEAD', 'OPTIONS']);

export interface GuardedRequest {
  readonly method: string;
  readonly host: string | undefined;
  readonly origin: string | undefined;
}

/**
 * Checks one request. A WebSocket starts with a GET, but it carries commands, so its origin is checked like that of a
 * POST.
 * @throws FORBIDDEN for a foreign host or origin, UNAUTHORIZED without the token
 */
export type Guard = (request: IncomingMessage, kind?: 'WebSocket') => void;

interface GuardDeps {
  readonly config: Pick<Config, 'tcp' | 'allowedHosts'>;
  readonly access: Pick<Access, 'check'>;
  readonly isLocal: (socket: object) => boolean;
}

export function createGuard({ config, access, isLocal }: GuardDeps): Guard {
  const checkSource = createSourceCheck(config.tcp?.host ?? null, config.allowedHosts);
  return ({ socket, method = '', headers, url = '' }, kind) => {
    if (isLocal(socket)) return;
    checkSource({ method: kind === 'WebSocket' ? 'POST' : method, host: headers.host, origin: headers.origin });
    const [path = ''] = url.split('?', 1);
    access.check({ path, authorization: headers.authorization, cookie: headers.cookie });
  };
}

/**
 * Makes the check of the Host and Origin headers. The check throws FORBIDDEN.
 * @param boundHost the address that the server listens on; null without a TCP address
 * @param allowedHosts more names of the server
 */
export function createSourceCheck(
  boundHost: string | null,
  allowedHosts: readonly string[] = [],
): (request: GuardedRequest) => void {
  const names = new Set([...loopbackNames, ...(boundHost === null ? [] : [nameInUrl(boundHost)]), ...allowedHosts]);
  const anyAddress = boundHost !== null && wildcardHosts.has(boundHost);
  // DNS rebinding needs a name. So a server that listens on all addresses accepts each literal IP address as its own.
  const isOwnName = (name: string) => names.has(name) || (anyAddress && isAddress(name));
  return ({ method, host, origin }) => {
    const name = host === undefined ? null : hostName(host);
    if (name === null || !isOwnName(name)) {
      throw new BoxRunError('FORBIDDEN', `this server is not called '${host ?? ''}'`, {
        hint: 'use localhost, or the address that the server listens on; `boxrun serve --allow-host NAME` allows more names',
      });
    }
    if (origin === undefined || readingMethods.has(method)) return;
    if (originHost(origin) !== host?.toLowerCase()) {
      throw new BoxRunError('FORBIDDEN', `pages of ${origin} may not send commands to this server`);
    }
  };
}

/** The name in a Host header `name:port`, in lower case; null when the header is not valid. */
function hostName(host: string): string | null {
  const match = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?$/i.exec(host);
  return match?.[1]?.toLowerCase() ?? null;
}

/** The host as a URL writes it: IPv6 addresses are in brackets. */
function nameInUrl(host: string): string {
  return isIP(host) === 6 ? `[${host.toLowerCase()}]` : host.toLowerCase();
}

function isAddress(name: string): boolean {
  return isIP(name.replace(/^\[|\]$/g, '')) !== 0;
}

function originHost(origin: string): string | null {
  return URL.canParse(origin) ? new URL(origin).host : null;
}
