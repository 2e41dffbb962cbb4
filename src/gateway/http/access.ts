// The token that requests by TCP need where one is set, and the cookie that stands for it in the dashboard: an HMAC
// keyed by a file of the state directory and the token itself, so that any gateway can check it, and a new token voids
// it. Asked by guards.ts for each request, and by routes/ui.ts for a new cookie. Without a token everybody may ask.
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { linkSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';

/** Where the one-time link leads: its code takes the token's place there. */
export const loginPath = '/ui/login';

export interface Access {
  /** @throws UNAUTHORIZED */
  check(request: {
    readonly path: string;
    readonly authorization: string | undefined;
    readonly cookie: string | undefined;
  }): void;
  /** A value for Set-Cookie. */
  newCookie(): string;
}

export interface AccessOptions {
  readonly token: string | null;
  /** Random, and the same for every gateway of the state directory. */
  readonly cookieKey: Buffer;
  readonly now?: () => number;
}

const keyBytes = 32;

export function createAccess({ token, cookieKey, now = Date.now }: AccessOptions): Access {
  const tokenHash = hash(token ?? '');
  const signingKey = createHmac('sha256', cookieKey).update(tokenHash).digest();
  // Cookies are not told apart by port: another server on this host has one of its own.
  const cookieName = `boxrun_${hash(cookieKey.toString('hex')).toString('hex').slice(0, 8)}`;
  const sign = (text: string) => createHmac('sha256', signingKey).update(text).digest('base64url');

  function isBearer(authorization: string | undefined): boolean {
    const given = /^bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
    return given !== undefined && timingSafeEqual(hash(given), tokenHash);
  }

  function isOurs(cookies: string | undefined): boolean {
    const values = (cookies ?? '').split(';').map((pair) => pair.trim().split('=', 2));
    return values.some(([name, value = '']) => {
      const [expires = '', nonce = '', signature = ''] = value.split('.');
      if (name !== cookieName || !/^\d{1,15}$/.test(expires)) return false;
      return timingSafeEqual(hash(signature), hash(sign(`${expires}.${nonce}`))) && Number(expires) > now();
    });
  }

  return {
    check({ path, authorization, cookie }) {
      if (token === null || path === loginPath || isBearer(authorization) || isOurs(cookie)) return;
      throw new BoxRunError('UNAUTHORIZED', 'this server asks for a token', {
        hint: 'send Authorization: Bearer TOKEN (clients take it from BOXRUN_TOKEN); `boxrun ui` on the host of the server prints a link for a browser',
      });
    },
    newCookie() {
      const text = `${now() + limits.uiCookieMs}.${randomBytes(12).toString('base64url')}`;
      const attributes = `Path=/; Max-Age=${limits.uiCookieMs / 1000}; HttpOnly; SameSite=Strict`;
      return `${cookieName}=${text}.${sign(text)}; ${attributes}`;
    },
  };
}

/** The key in the file at `path`, which is made if need be; of several makers one wins. */
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
  throw new BoxRunError('RUNTIME_ERROR', `${path} is no key of a server`, {
    hint: 'remove it; whoever is logged in to the dashboard logs in again',
  });
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
