// Makes up requests from /openapi.json: for each operation some that fit its schemas and some that do not. Some fields
// get useful values (an image that exists, a command that ends soon), so that requests have an effect. Everything else
// is random, from a seed.
import fc from 'fast-check';
import type { Conformance, DescribedOperation, Schema } from './conformance.ts';

export interface MadeRequest {
  readonly method: string;
  /** The path as it is described. `url` is the path as it is sent. */
  readonly path: string;
  readonly url: string;
  readonly body: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

/** Values with which a request has an effect, by field. */
const usefulValues: Readonly<Record<string, readonly unknown[]>> = {
  image: ['base'],
  cpu: [1],
  memory_mb: [32, 64],
  disk_size_gb: [1, 8],
  network: [false],
  cmd: [['true'], ['false'], ['echo', 'a b'], ['sh', '-c', 'echo é; exit 7'], ['no-such-command']],
  workdir: ['/', '/root', '/no/such'],
  env: [null, {}, { A: '1' }],
  volumes: [null, []],
  labels: [null, {}, { a: 'b' }],
  name: [null],
  timeout_ms: [null, 5_000],
  older_than: [1_000_000],
  path: ['/etc/passwd', '/no/such', '/'],
  user: [null],
  stdin: [false],
  tty: [false],
};

/** These operations are slow, so only few of their requests should succeed. */
const slowOperations = new Set(['createBox', 'run', 'startBox', 'stopBox', 'restartBox', 'removeBox']);

const hostile = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom<unknown>(
    '',
    '\0',
    'x'.repeat(5_000),
    -1,
    0,
    1.5,
    2 ** 53,
    -(2 ** 40),
    [],
    {},
    [null],
    { __proto__: 1 },
    '../../etc',
    "'; DROP TABLE boxes",
    '😀',
    '\ud800',
  ),
);
const hostileText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom('0', '-1', '1e9', 'null', 'true', '%', ':', ':stop', 'a:b', '..', 'x'.repeat(300)),
);

export function requestsFor(
  { operations, resolve }: Conformance,
  targets: { readonly boxes: readonly string[]; readonly execs: readonly string[] },
): fc.Arbitrary<MadeRequest> {
  const valueFor = (name: string, given: Schema): fc.Arbitrary<unknown> => {
    const schema = resolve(given);
    const useful = usefulValues[name];
    if (useful !== undefined) return fc.constantFrom(...useful);
    if (Array.isArray(schema['enum'])) return fc.constantFrom(...(schema['enum'] as unknown[]));
    if (schema['type'] === 'boolean') return fc.boolean();
    if (schema['type'] === 'integer') {
      const { minimum = 0, maximum = 1_000 } = schema as { minimum?: number; maximum?: number };
      return fc.integer({ min: minimum, max: Math.min(maximum, 2 ** 31 - 1) });
    }
    if (schema['type'] === 'array') return fc.array(fc.string({ minLength: 1, maxLength: 8 }), { maxLength: 3 });
    return fc.string({ minLength: 1, maxLength: 20 });
  };

  const bodyFor = (operation: DescribedOperation, valid: boolean): fc.Arbitrary<string | undefined> => {
    const schema = operation.requestBody?.content['application/json']?.schema;
    if (schema === undefined)
      return valid
        ? fc.constant(undefined)
        : fc.option(
            hostile.map((value) => JSON.stringify(value)),
            { nil: undefined },
          );
    const { properties = {}, required = [] } = resolve(schema) as {
      properties?: Record<string, Schema>;
      required?: string[];
    };
    const good = fc.record(
      Object.fromEntries(Object.entries(properties).map(([name, each]) => [name, valueFor(name, each)])),
      {
        requiredKeys: [...new Set([...required, 'cpu', 'memory_mb'])].filter((name) => Object.hasOwn(properties, name)),
      },
    );
    if (valid) return good.map((value) => JSON.stringify(value));
    const invalid = fc
      .tuple(good, fc.constantFrom(...Object.keys(properties)), hostile)
      .map(([value, name, bad]) => JSON.stringify({ ...value, [name]: bad }))
      // The changed body may still be valid, for example if the field is optional. It must not create very many boxes.
      .map((text) =>
        slowOperations.has(operation.operationId)
          ? JSON.stringify({ ...(JSON.parse(text) as object), image: 7 })
          : text,
      );
    return fc.oneof(
      invalid,
      hostile.map((value) => JSON.stringify(value)),
      fc.string({ maxLength: 30 }),
    );
  };

  const pathFor = (path: string, valid: boolean): fc.Arbitrary<string> => {
    const parts = path.split(/(\{\w+\})/).map((part) => {
      if (part === '{box}')
        return valid ? fc.constantFrom(...targets.boxes) : fc.oneof(hostileText, fc.constantFrom(...targets.boxes));
      if (part === '{exec}')
        return valid ? fc.constantFrom(...targets.execs) : fc.oneof(hostileText, fc.constantFrom(...targets.execs));
      return null;
    });
    const texts = path
      .split(/(\{\w+\})/)
      .map((part, index) => parts[index]?.map((text) => encoded(text === '' ? 'x' : text)) ?? fc.constant(part));
    return fc.tuple(...texts).map((pieces) => pieces.join(''));
  };

  const queryFor = (operation: DescribedOperation, valid: boolean): fc.Arbitrary<string> => {
    const fields = operation.parameters
      .filter((each) => each.in === 'query')
      .map(({ name, schema }) => {
        const value =
          valid && name !== 'cursor' ? valueFor(name, schema).map((each) => [each].flat().join(',')) : hostileText;
        return fc.option(
          value.map((text) => `${name}=${encoded(text)}`),
          { nil: '', freq: 1 },
        );
      });
    return fc.tuple(...fields).map((texts) => texts.filter((text) => text !== '').join('&'));
  };

  const headersFor = (
    operation: DescribedOperation,
    hasBody: boolean,
    valid: boolean,
  ): fc.Arbitrary<Record<string, string>> => {
    const type = valid
      ? fc.constant('application/json')
      : fc.constantFrom(
          'application/json',
          'application/json',
          'application/json',
          'text/plain',
          'multipart/form-data; boundary=x',
        );
    const eventId = operation.parameters.some(({ name }) => name === 'Last-Event-ID')
      ? fc.constantFrom('0', '5', 'x', '-1', undefined)
      : fc.constant(undefined);
    const key = operation.parameters.some(({ name }) => name === 'Idempotency-Key')
      ? fc.constantFrom(undefined, undefined, 'k'.repeat(300), 'a b', 'one')
      : fc.constant(undefined);
    return fc.tuple(type, eventId, key).map(([contentType, id, idempotency]) => ({
      ...(hasBody ? { 'content-type': contentType } : {}),
      ...(id === undefined ? {} : { 'last-event-id': id }),
      ...(idempotency === undefined || valid ? {} : { 'idempotency-key': idempotency }),
    }));
  };

  const requestFor = (
    { method, path, operation }: Conformance['operations'][number],
    valid: boolean,
  ): fc.Arbitrary<MadeRequest> =>
    fc.tuple(pathFor(path, valid), queryFor(operation, valid), bodyFor(operation, valid)).chain(([url, query, body]) =>
      headersFor(operation, body !== undefined, valid).map((headers) => ({
        method,
        path,
        body,
        headers,
        url: query === '' ? url : `${url}?${query}`,
      })),
    );

  return fc.oneof(
    ...operations.flatMap((each) => {
      const slow = slowOperations.has(each.operation.operationId);
      const invalid = { arbitrary: requestFor(each, false), weight: 50 };
      // An invalid removal or start may still name a real box. That is intended.
      return [
        { arbitrary: requestFor(each, true), weight: slow ? 4 : 50 },
        slow ? { ...invalid, weight: 96 } : invalid,
      ];
    }),
  );
}

function encoded(text: string): string {
  return encodeURIComponent(text.replace(/[\ud800-\udfff]/g, '?'));
}
