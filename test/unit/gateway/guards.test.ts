// Which requests a page in a browser could have caused, and are refused.
import { describe, expect, it } from 'vitest';
import { createSourceCheck } from '../../../src/gateway/http/guards.ts';

const get = (host: string | undefined, origin?: string) => ({ method: 'GET', host, origin });
const post = (host: string, origin?: string) => ({ method: 'POST', host, origin });
const refused = expect.objectContaining({ code: 'FORBIDDEN', status: 403 }) as Error;

describe('on a loopback address', () => {
  const guard = createSourceCheck('127.0.0.1');

  it.each(['localhost', 'LOCALHOST:9090', '127.0.0.1:9090', '[::1]', '[::1]:80'])('is called %s', (host) => {
    expect(() => {
      guard(get(host));
    }).not.toThrow();
  });

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
  ])('is not called %s', (host) => {
    expect(() => {
      guard(get(host));
    }).toThrow(refused);
  });

  it.each(['GET', 'HEAD', 'OPTIONS'])('lets other pages send %s, whose answer they cannot read', (method) => {
    expect(() => {
      guard({ method, host: 'localhost', origin: 'http://evil.example' });
    }).not.toThrow();
  });

  it.each(['http://evil.example', 'null', 'http://localhost:3000', 'http://localhost', 'rubbish'])(
    'takes no command from %s',
    (origin) => {
      for (const method of ['POST', 'DELETE', 'PUT', 'PATCH']) {
        expect(() => {
          guard({ method, host: 'localhost:9090', origin });
        }).toThrow(refused);
      }
    },
  );

  it('takes commands from its own page, and from clients that are no browsers', () => {
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

it('answers to the address that it listens on', () => {
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

it('answers to any address, but to no other name, where it listens on all', () => {
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

it('answers to further names that it was given, and to no part of them', () => {
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
