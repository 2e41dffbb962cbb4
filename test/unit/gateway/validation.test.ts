// Tests how the gateway checks bodies and queries. It fills in defaults, leaves out unknown fields, converts no types
// in bodies, and names the wrong field in its message.
import { Type } from 'typebox';
import { describe, expect, it } from 'vitest';
import { CreateBoxBody, ExecBody, GcBody } from '../../../src/shared/api.ts';
import { createParse, createParseQuery } from '../../../src/gateway/http/validation.ts';

const parseCreate = createParse(CreateBoxBody);
const parseExec = createParse(ExecBody);
const invalid = (message: string) =>
  expect.objectContaining({
    code: 'VALIDATION_ERROR',
    status: 422,
    message: expect.stringContaining(message) as string,
  }) as Error;

it('a parsed body has defaults, also in lists, and no unknown fields', () => {
  const volumes = [{ host_path: '/a', guest_path: '/b', extra: 1 }];
  expect(parseCreate({ image: 'base', volumes, colour: 'blue' })).toEqual({
    image: 'base',
    cpu: 2,
    memory_mb: 1024,
    disk_size_gb: 8,
    network: false,
    workdir: '/root',
    volumes: [{ host_path: '/a', guest_path: '/b', readonly: false }],
  });
});

it('parsing does not change its input', () => {
  const body = { image: 'base', env: { A: '1' }, extra: true };
  parseCreate(body);
  expect(body).toEqual({ image: 'base', env: { A: '1' }, extra: true });
});

it('null is accepted in optional fields only', () => {
  expect(parseExec({ cmd: ['a'], env: null, workdir: null, timeout_ms: null })).toEqual({
    cmd: ['a'],
    env: null,
    workdir: null,
    timeout_ms: null,
  });
  expect(() => parseCreate({ image: 'a', cpu: null })).toThrow(invalid("'cpu' must be a whole number from 1 to 255"));
});

it.each([
  [undefined, 'the body must be a JSON object'],
  [null, 'the body must be a JSON object'],
  ['text', 'the body must be a JSON object'],
  [{}, "'cmd' is missing; it must be a list"],
  [{ cmd: 'ls' }, "'cmd' must be a list"],
  [{ cmd: [1] }, "'cmd' must be a list"],
  [{ cmd: ['a\u0000'] }, "'cmd' must be a list"],
  [{ cmd: ['a'], timeout_ms: 0 }, "'timeout_ms' must be a whole number from 1 to 2147483647"],
  [{ cmd: ['a'], timeout_ms: 1.5 }, "'timeout_ms' must be a whole number"],
  [{ cmd: ['a'], env: { '': 'x' } }, "'env' must be an object"],
  [{ cmd: ['a'], env: [] }, "'env' must be an object"],
])('the body %j is refused with a message', (body, message) => {
  expect(() => parseExec(body)).toThrow(invalid(message));
});

it('property names of the language, such as __proto__, are harmless in a body', () => {
  const body = JSON.parse('{"cmd":["a"],"env":{"__proto__":"x","constructor":"y"}}') as unknown;
  const env = parseExec(body).env ?? {};
  expect(Object.entries(env)).toContainEqual(['constructor', 'y']);
  expect(Object.getPrototypeOf(env)).toBe(Object.prototype);
});

it('the message has the range of a number without an upper limit', () => {
  expect(() => createParse(GcBody)({ older_than: -1 })).toThrow(invalid("'older_than' must be a whole number from 0"));
});

describe('a parsed query', () => {
  const parse = createParseQuery(
    Type.Object({
      after: Type.Optional(Type.Integer({ maximum: 99 })),
      label: Type.Optional(Type.Array(Type.String())),
      status: Type.Optional(Type.Enum(['running', 'all'])),
    }),
  );

  it('has whole numbers and lists', () => {
    expect(parse({ after: '12', label: 'a=b', status: 'all' })).toEqual({ after: 12, label: ['a=b'], status: 'all' });
    expect(parse({ after: '-1', label: ['a', 'b'] })).toEqual({ after: -1, label: ['a', 'b'] });
    expect(parse({ after: '', unknown: 'x' })).toEqual({});
  });

  it.each(['a', '1.5', '1e3', ' 1', '9'.repeat(20), '100'])('is refused if a number is "%s"', (text) => {
    expect(() => parse({ after: text })).toThrow(invalid("'after' must be a whole number up to 99"));
  });

  it('is refused without a range in the message if the number has no bounds', () => {
    const unbound = createParseQuery(Type.Object({ after: Type.Integer() }));
    expect(unbound({ after: '-1' })).toEqual({ after: -1 });
    expect(() => unbound({ after: 'a' })).toThrow(
      expect.objectContaining({ message: "'after' must be a whole number" }),
    );
  });

  it('is refused if a single value is given twice', () => {
    expect(() => parse({ status: ['all', 'all'] })).toThrow(invalid("'status' must be"));
    expect(() => parse({ after: ['1', '2'] })).toThrow(invalid("'after' must be"));
  });
});
