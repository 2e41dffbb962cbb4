// Tests who may use the API: a client with the token, or with a cookie that stands for the token. Also tests the key
// file of the cookies, the one-time codes of login links, and how many streams a client may have open.
import { EventEmitter } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createAccess, loadCookieKey } from '../../../src/gateway/http/access.ts';
import { createStreamPlaces } from '../../../src/gateway/live/stream-places.ts';
import { createUiCodes } from '../../../src/supervisor/ui-codes.ts';

const token = 'correct-horse-battery';
const cookieKey = Buffer.alloc(32, 7);
const unauthorized = expect.objectContaining({ code: 'UNAUTHORIZED', status: 401 }) as Error;
const withHeaders = (headers: { authorization?: string; cookie?: string }, path = '/v1/info') => ({
  path,
  authorization: headers.authorization,
  cookie: headers.cookie,
});
const pairOf = (cookie: string) => cookie.split(';')[0] ?? '';

describe('a token', () => {
  const access = createAccess({ token, cookieKey });

  it.each([`Bearer ${token}`, `bearer  ${token} `])('is accepted in the header %j', (authorization) => {
    expect(() => {
      access.check(withHeaders({ authorization }));
    }).not.toThrow();
  });

  it.each([
    undefined,
    '',
    'Bearer',
    'Bearer ',
    `Bearer ${token}x`,
    `Bearer ${token.slice(1)}`,
    `Basic ${token}`,
    token,
    `Bearer x ${token}`,
  ])('is refused in the header %j', (authorization) => {
    const headers = authorization === undefined ? {} : { authorization };
    expect(() => {
      access.check(withHeaders(headers));
    }).toThrow(unauthorized);
  });

  it('is not required for the login with a link, nor if the server has no token', () => {
    expect(() => {
      access.check(withHeaders({}, '/ui/login'));
    }).not.toThrow();
    for (const path of ['/ui', '/ui/login/', '/ui/login/x', '/v1/../ui/login', '/healthz']) {
      expect(() => {
        access.check(withHeaders({}, path));
      }, path).toThrow(unauthorized);
    }
    expect(() => {
      createAccess({ token: null, cookieKey }).check(withHeaders({}));
    }).not.toThrow();
  });
});

describe('a login cookie', () => {
  let now = 1_000_000;
  const access = createAccess({ token, cookieKey, now: () => now });
  const cookie = access.newCookie();

  it('is for this server only, and no script can read it', () => {
    expect(cookie).toMatch(/^boxrun_[0-9a-f]{8}=\S+; Path=\/; Max-Age=43200; HttpOnly; SameSite=Strict$/);
    expect(cookie).not.toContain(token);
  });

  it('is accepted by any gateway, and among other cookies', () => {
    const other = createAccess({ token, cookieKey, now: () => now });
    expect(() => {
      other.check(withHeaders({ cookie: `a=b; ${pairOf(cookie)}; c=d` }));
    }).not.toThrow();
  });

  it('is refused if it was changed, is from another server, is for another token, or is too old', () => {
    const [name, value = ''] = pairOf(cookie).split('=');
    const [, nonce, signature] = value.split('.');
    for (const forged of [
      `${name}=`,
      `${name}=9999999999999.${nonce}.${signature}`,
      `${name}=${value}x`,
      `other=${value}`,
      `${name}=..`,
    ]) {
      expect(() => {
        access.check(withHeaders({ cookie: forged }));
      }, forged).toThrow(unauthorized);
    }
    const good = withHeaders({ cookie: pairOf(cookie) });
    expect(() => {
      createAccess({ token, cookieKey: Buffer.alloc(32, 8), now: () => now }).check(good);
    }).toThrow(unauthorized);
    expect(() => {
      createAccess({ token: `${token}2`, cookieKey, now: () => now }).check(good);
    }).toThrow(unauthorized);
    now += 12 * 60 * 60 * 1000;
    expect(() => {
      access.check(good);
    }).toThrow(unauthorized);
  });
});

it('the gateway keeps the key of cookies in a private file, the same for every call', () => {
  const dir = mkdtempSync(join(tmpdir(), 'boxrun-test-key-'));
  const path = join(dir, 'cookie.key');
  const key = loadCookieKey(path);
  expect(key).toHaveLength(32);
  expect(loadCookieKey(path).equals(key)).toBe(true);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readdirSync(dir)).toEqual(['cookie.key']);
  writeFileSync(path, 'short');
  expect(() => loadCookieKey(path)).toThrow('not the key of a server');
  rmSync(dir, { recursive: true });
});

describe('the one-time code of a login link', () => {
  it('is accepted once', () => {
    const codes = createUiCodes();
    const code = codes.issue();
    expect([codes.redeem(`${code}x`), codes.redeem(code), codes.redeem(code)]).toEqual([false, true, false]);
  });

  it('is accepted for a minute', () => {
    let now = 0;
    const codes = createUiCodes(() => now);
    const [early, late] = [codes.issue(), codes.issue()];
    now = 59_999;
    expect(codes.redeem(early)).toBe(true);
    now = 60_000;
    expect(codes.redeem(late)).toBe(false);
  });

  it('is refused if it is the oldest of too many', () => {
    const codes = createUiCodes();
    const issued = Array.from({ length: 101 }, () => codes.issue());
    expect(issued.map((code) => codes.redeem(code)).filter((good) => !good)).toHaveLength(1);
  });
});

it('each client may have a limited number of streams, and a closed one is free again', () => {
  const connection = (remoteAddress?: string, destroyed = false) =>
    Object.assign(new EventEmitter(), { remoteAddress, destroyed });
  const places = createStreamPlaces(2);
  const first = connection('a');
  places.take(first);
  places.take(connection('a'));
  places.take(connection('a', true)); // This connection has closed already and takes no place.
  const tooMany = expect.objectContaining({ code: 'TOO_MANY_REQUESTS', status: 429 }) as Error;
  expect(() => {
    places.take(connection('a'));
  }).toThrow(tooMany);
  expect(() => {
    places.take(connection('b'));
    places.take(connection());
    places.take(connection());
  }).not.toThrow();
  expect(() => {
    places.take(connection());
  }).toThrow(tooMany);
  first.emit('close');
  expect(() => {
    places.take(connection('a'));
  }).not.toThrow();
});
