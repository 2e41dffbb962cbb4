// Who may ask, by TCP: a page in the user's browser must not command boxes. Host must be a name of ours (a foreign one means
// DNS rebinding), and a request that changes something must not come from a page of another origin.
// The Unix socket is protected by its mode, and no page can reach it.
import { isIP } from 'node:net';
import { BoxRunError } from '../shared/errors.ts';

const loopbackNames = new Set(['localhost', '127.0.0.1', '[::1]']);
const wildcardHosts = new Set(['0.0.0.0', '::']);
const readingMethods = new Set(['GET', 'HEAD', 'OPTIONS']);

export interface GuardedRequest {
  readonly method: string;
  readonly host: string | undefined;
  readonly origin: string | undefined;
}

/** Refuses, with FORBIDDEN, what does not come from a client of this server. `boundHost` is the address that it listens on. */
export function createGuard(boundHost: string | null): (request: GuardedRequest) => void {
  const bound = boundHost === null ? null : nameInUrl(boundHost);
  const anyAddress = boundHost !== null && wildcardHosts.has(boundHost);
  // An address cannot be rebound, so on a wildcard each literal one is ours.
  const isOurs = (name: string) => loopbackNames.has(name) || name === bound || (anyAddress && isAddress(name));
  return ({ method, host, origin }) => {
    const name = host === undefined ? null : hostName(host);
    if (name === null || !isOurs(name)) {
      throw new BoxRunError('FORBIDDEN', `this server is not called '${host ?? ''}'`, {
        hint: 'use localhost, or the address that the server listens on',
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
