// Checks the access token of requests over TCP, and makes the cookie that replaces the token in the dashboard.
// The cookie is signed with an HMAC. Its key comes from a file of the state directory and from the token. So every
// gateway can check the cookie, and a new token makes old cookies invalid. Without a token, every request is allowed.
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { linkSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';

/** The path of the one-time login link. A request for it needs no token, because the link carries a code instead. */
export const loginPath = '/ui/login';

export interface Access {
  /** @throws UNAUTHORIZED when a token is set and the request has neither the token nor a valid cookie */
  check(request: {
    readonly path: string;
    readonly authorization: string | undefined;
    readonly cookie: string | undefined;
  }): void;
  /** A value for the Set-Cookie header. The cookie is valid for limits.uiCookieMs. */
  newCookie(): string;
  /** True if the server was started with a token. */
  readonly needsToken: boolean;
  /** True for a header that has the token of this server. */
  hasToken(authorization: string | undefined): boolean;
  /** The same as newCookie, for the host name of one port of a box. It gives no right on the API. */
  newPortCookie(label: string): string;
  hasPortCookie(cookies: string | undefined, label: string): boolean;
  /** The Cookie header without the cookies of BoxRun servers; empty if nothing is left. */
  withoutOwnCookies(cookies: string): string;
  /** True for a cookie, or a Set-Cookie header, with a name that BoxRun uses. */
  isOwnCookie(cookie: string): boolean;
}

export interface AccessOptions {
  readonly token: string | null;
  /** Random bytes, the same for every gateway of one state directory. */
  readonly cookieKey: Buffer;
  /** Milliseconds since 1970; Date.now when absent. */
  readonly now?: () => number;
}

const keyBytes = 32;
const cookiePrefix = 'boxrun_';

export function createAccess({ token, cookieKey, now = Date.now }: AccessOptions): Access {
  const tokenHash = hash(token ?? '');
  const signingKey = createHmac('sha256', cookieKey).update(tokenHash).digest();
  // Browsers send a cookie to every port of a host. So each server on this host needs its own cookie name.
  const cookieName = `${cookiePrefix}${hash(cookieKey.toString('hex')).toString('hex').slice(0, 8)}`;
  const portCookieName = `${cookieName}_port`;
  const sign = (text: string) => createHmac('sha256', signingKey).update(text).digest('base64url');

  function hasToken(authorization: string | undefined): boolean {
    const given = /^bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    return given !== undefined && timingSafeEqual(hash(given), tokenHash);
  }

  /** @param scope is signed with the cookie, so a cookie of one scope is not valid for another one */
  function hasCookie(cookies: string | undefined, wanted: string, scope: string): boolean {
    const values = (cookies ?? '').split(';').map((pair) => pair.trim().split('=', 2));
    return values.some(([name, value = '']) => {
      const [expires = '', nonce = '', signature = ''] = value.split('.');
      if (name !== wanted || !/^\d{1,15}$/.test(expires)) return false;
      return timingSafeEqual(hash(signature), hash(sign(`${scope}${expires}.${nonce}`))) && Number(expires) > now();
    });
  }

  function makeCookie(name: string, scope: string, sameSite: 'Strict' | 'Lax'): string {
    const text = `${now() + limits.uiCookieMs}.${randomBytes(12).toString('base64url')}`;
    const attributes = `Path=/; Max-Age=${limits.uiCookieMs / 1000}; HttpOnly; SameSite=${sameSite}`;
    return `${name}=${text}.${sign(scope + text)}; ${attributes}`;
  }

  const isOwnCookie = (cookie: string) => cookie.trimStart().startsWith(cookiePrefix);
  const portScope = (label: string) => `port ${label} `;

  return {
    needsToken: token !== null,
    hasToken: (authorization) => token !== null && hasToken(authorization),
    check({ path, authorization, cookie }) {
      if (token === null || path === loginPath || hasToken(authorization) || hasCookie(cookie, cookieName, '')) return;
      throw new BoxRunError('UNAUTHORIZED', 'this server asks for a token', {
        hint: 'send Authorization: Bearer TOKEN (clients take it from BOXRUN_TOKEN); `boxrun ui` on the host of the server prints a link for a browser',
      });
    },
    newCookie: () => makeCookie(cookieName, '', 'Strict'),
    // Lax: a link on another page, such as the dashboard, may lead here. The proxy checks the source of each request.
    newPortCookie: (label) => makeCookie(portCookieName, portScope(label), 'Lax'),
    hasPortCookie: (cookies, label) => hasCookie(cookies, portCookieName, portScope(label)),
    isOwnCookie,
    withoutOwnCookies: (cookies) =>
      cookies
        .split(';')
        .filter((cookie) => !isOwnCookie(cookie))
        .join(';')
        .trim(),
  };
}

/**
 * Reads the cookie key from the file at `path`, and makes the file first if it does not exist. If several gateways make
 * it at the same time, all of them read the key of the first one.
 * @throws RUNTIME_ERROR when the file has the wrong length
 */
export function loadCookieKey(path: string): Buffer {
  const fresh = `${path}.${process.pid}`;
  writeFileSync(fresh, randomBytes(keyBytes), { mode: 0o600 });
  try {
    linkSync(fresh, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    unlinkSync(fresh);
  }
  const key = readFileSync(path);
  if (key.length === keyBytes) return key;
  throw new BoxRunError('RUNTIME_ERROR', `${path} is not the key of a server`, {
    hint: 'remove it; users of the dashboard must then log in again',
  });
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
