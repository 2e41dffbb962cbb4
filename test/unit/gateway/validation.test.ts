// Bodies as values: defaults, unknown fields, no conversion of types, and messages that name the field.
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

it('fills defaults in, also within lists, and leaves unknown fields out', () => {
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

it('does not change what it was given', () => {
  const body = { image: 'base', env: { A: '1' }, extra: true };
  parseCreate(body);
  expect(body).toEqual({ image: 'base', env: { A: '1' }, extra: true });
});

it('takes null where a field may be missing', () => {
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
])('refuses %j', (body, message) => {
  expect(() => parseExec(body)).toThrow(invalid(message));
});

it('is not fooled by names of the language', () => {
  const body = JSON.parse('{"cmd":["a"],"env":{"__proto__":"x","constructor":"y"}}') as unknown;
  const env = parseExec(body).env ?? {};
  expect(Object.entries(env)).toContainEqual(['constructor', 'y']);
  expect(Object.getPrototypeOf(env)).toBe(Object.prototype);
});

it('says the range of a number without an upper bound', () => {
  expect(() => createParse(GcBody)({ older_than: -1 })).toThrow(invalid("'older_than' must be a whole number from 0"));
});

describe('a query', () => {
  const parse = createParseQuery(
    Type.Object({
      after: Type.Optional(Type.Integer({ maximum: 99 })),
      label: Type.Optional(Type.Array(Type.String())),
      status: Type.Optional(Type.Enum(['running', 'all'])),
    }),
  );

  it('has whole numbers and lists in it', () => {
    expect(parse({ after: '12', label: 'a=b', status: 'all' })).toEqual({ after: 12, label: ['a=b'], status: 'all' });
    expect(parse({ after: '-1', label: ['a', 'b'] })).toEqual({ after: -1, label: ['a', 'b'] });
    expect(parse({ after: '', unknown: 'x' })).toEqual({});
  });

  it.each(['a', '1.5', '1e3', ' 1', '9'.repeat(20), '100'])('has no number in "%s"', (text) => {
    expect(() => parse({ after: text })).toThrow(invalid("'after' must be a whole number from 0 to 99"));
  });

  it('has one value where one is meant', () => {
    expect(() => parse({ status: ['all', 'all'] })).toThrow(invalid("'status' must be"));
    expect(() => parse({ after: ['1', '2'] })).toThrow(invalid("'after' must be"));
  });
});
