// Tests the check of host and origin: the gateway refuses requests that a page of another site could have caused.
import { describe, expect, it } from 'vitest';
import { createSourceCheck } from '../../../src/gateway/http/guards.ts';

const get = (host: string | undefined, origin?: string) => ({ method: 'GET', host, origin });
const post = (host: string, origin?: string) => ({ method: 'POST', host, origin });
const refused = expect.objectContaining({ code: 'FORBIDDEN', status: 403 }) as Error;

describe('a server on a loopback address', () => {
  const guard = createSourceCheck('127.0.0.1');

  it.each(['localhost', 'LOCALHOST:9090', '127.0.0.1:9090', '[::1]', '[::1]:80'])(
    'accepts the host name %s',
    (host) => {
      expect(() => {
        guard(get(host));
      }).not.toThrow();
    },
  );

  it.each([
    undefined,
    '',
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.nip.example',
    '10.0.0.1',
    'a@localhost',
    'localhost:',
    'localhost:1:2',
    'localhost/x',
  ])('refuses the host name %s', (host) => {
    expect(() => {
      guard(get(host));
    }).toThrow(refused);
  });

  it.each(['GET', 'HEAD', 'OPTIONS'])('accepts %s from other pages, because they cannot read the answer', (method) => {
    expect(() => {
      guard({ method, host: 'localhost', origin: 'http://evil.example' });
    }).not.toThrow();
  });

  it.each(['http://evil.example', 'null', 'http://localhost:3000', 'http://localhost', 'rubbish'])(
    'refuses changes from the origin %s',
    (origin) => {
      for (const method of ['POST', 'DELETE', 'PUT', 'PATCH']) {
        expect(() => {
          guard({ method, host: 'localhost:9090', origin });
        }).toThrow(refused);
      }
    },
  );

  it('accepts changes from its own page, and from clients without an origin', () => {
    expect(() => {
      guard(post('localhost:9090', 'http://localhost:9090'));
    }).not.toThrow();
    expect(() => {
      guard(post('[::1]:9090', 'http://[::1]:9090'));
    }).not.toThrow();
    expect(() => {
      guard(post('localhost:9090'));
    }).not.toThrow();
  });
});

it('a server accepts the address on which it listens as its host name', () => {
  expect(() => {
    createSourceCheck('192.0.2.7')(get('192.0.2.7:9090'));
  }).not.toThrow();
  expect(() => {
    createSourceCheck('fd00::7')(get('[fd00::7]:9090'));
  }).not.toThrow();
  expect(() => {
    createSourceCheck('box.example')(get('BOX.example:9090'));
  }).not.toThrow();
  expect(() => {
    createSourceCheck('192.0.2.7')(get('192.0.2.8'));
  }).toThrow(refused);
});

it('a server that listens on all addresses accepts any address but no other name', () => {
  for (const wildcard of ['0.0.0.0', '::']) {
    expect(() => {
      createSourceCheck(wildcard)(get('192.0.2.8:9090'));
    }).not.toThrow();
    expect(() => {
      createSourceCheck(wildcard)(get('[fd00::8]:9090'));
    }).not.toThrow();
    expect(() => {
      createSourceCheck(wildcard)(get('evil.example'));
    }).toThrow(refused);
  }
});

it('a server accepts the additional names in its settings, but not parts of them', () => {
  const guard = createSourceCheck('127.0.0.1', ['box.example']);
  expect(() => {
    guard(get('box.example'));
    guard(get('Box.Example:443'));
    guard(post('box.example', 'https://box.example'));
  }).not.toThrow();
  for (const name of ['a.box.example', 'box.example.evil', 'example'])
    expect(() => {
      guard(get(name));
    }).toThrow(refused);
  expect(() => {
    guard(post('box.example', 'https://evil.example'));
  }).toThrow(refused);
});
