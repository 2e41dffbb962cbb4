// Who may ask, by TCP: a page in the user's browser must not command boxes. Host must be a name of ours (a foreign one
// means DNS rebinding), and a request that changes something must not come from a page of another origin. Where a token
// is set, each request needs it as well. The Unix socket is protected by its mode, and no page can reach it.
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

/** Refuses, by throwing, who may not ask; a WebSocket is asked for with GET, and is for commands all the same. */
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
 * Refuses, with FORBIDDEN, what does not come from a client of this server. `boundHost` is the address that it listens
 * on, `allowedHosts` are further names of it.
 */
export function createSourceCheck(
  boundHost: string | null,
  allowedHosts: readonly string[] = [],
): (request: GuardedRequest) => void {
  const names = new Set([...loopbackNames, ...(boundHost === null ? [] : [nameInUrl(boundHost)]), ...allowedHosts]);
  const anyAddress = boundHost !== null && wildcardHosts.has(boundHost);
  // An address cannot be rebound, so on a wildcard each literal one is ours.
  const isOurs = (name: string) => names.has(name) || (anyAddress && isAddress(name));
  return ({ method, host, origin }) => {
    const name = host === undefined ? null : hostName(host);
    if (name === null || !isOurs(name)) {
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

/** `name` of a Host header `name:port`, in lower case; null when it is none. */
function hostName(host: string): string | null {
  const match = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?$/i.exec(host);
  return match?.[1]?.toLowerCase() ?? null;
}

/** A host as it stands in a URL: IPv6 addresses in brackets. */
function nameInUrl(host: string): string {
  return isIP(host) === 6 ? `[${host.toLowerCase()}]` : host.toLowerCase();
}

function isAddress(name: string): boolean {
  return isIP(name.replace(/^\[|\]$/g, '')) !== 0;
}

function originHost(origin: string): string | null {
  return URL.canParse(origin) ? new URL(origin).host : null;
}
