// The comparison of two descriptions of the API: each kind of break is found and named, and what only adds is none.
import { describe, expect, it } from 'vitest';
import type { ApiDocument, Schema } from '../../support/conformance.ts';
import { breakingChanges } from '../../support/openapi-changes.ts';

const text = { type: 'string' };
const order = {
  type: 'object',
  required: ['image'],
  properties: {
    image: { type: 'string', minLength: 1, maxLength: 100, pattern: '^a' },
    size: { type: 'integer', minimum: 1, maximum: 10, default: 2 },
    kind: { enum: ['big', 'small'] },
    note: { anyOf: [text, { type: 'null' }] },
    list: { type: 'array', items: { type: 'integer' } },
    env: { type: 'object', patternProperties: { '^x$': text }, additionalProperties: false },
  },
};
const box = {
  type: 'object',
  required: ['id', 'owner'],
  properties: { id: text, status: { enum: ['on', 'off'] }, owner: { anyOf: [text, { type: 'null' }] }, tags: { type: 'array', items: text } },
};
const failure = { type: 'object', required: ['code'], properties: { code: text, message: text } };
const json = (schema: Schema) => ({ 'application/json': { schema } });
const refer = (name: string) => ({ $ref: `#/components/schemas/${name}` });

const base = {
  openapi: '3.1.0',
  paths: {
    '/boxes': {
      get: {
        operationId: 'list',
        parameters: [{ name: 'limit', in: 'query', required: false, schema: { type: 'integer', maximum: 100 } }],
        responses: { 200: { content: json({ type: 'array', items: refer('Box') }), headers: { Link: {} } } },
      },
      post: {
        operationId: 'create',
        parameters: [],
        requestBody: { required: false, content: json(refer('Order')) },
        responses: {
          201: { content: json(refer('Box')) },
          409: { content: json({ allOf: [refer('Failure'), { properties: { code: { enum: ['TAKEN', 'FULL'] } } }] }) },
        },
      },
    },
  },
  components: { schemas: { Order: order, Box: box, Failure: failure, Event: { type: 'object', properties: { at: text } } } },
  security: [{}, { token: [] }],
};
type Base = typeof base;

/** The breaks that a client of `base` meets once `change` has been made in a copy of it. */
function breaksAfter(change: (copy: Base) => unknown): string[] {
  const copy = structuredClone(base);
  change(copy);
  return breakingChanges(base as ApiDocument, copy as ApiDocument);
}

const orderOf = (copy: Base) => copy.components.schemas.Order as { required: string[]; properties: Record<string, Schema>; additionalProperties?: boolean };
const boxOf = (copy: Base) => copy.components.schemas.Box as { required: string[]; properties: Record<string, Schema> };
const set = (schema: unknown, values: Schema) => Object.assign(schema as object, values);
const remove = (value: object, name: string) => Reflect.deleteProperty(value, name);

it('finds nothing between a description and itself', () => {
  expect(breaksAfter(() => undefined)).toEqual([]);
});

describe('of an operation it finds', () => {
  const { get: list, post: create } = base.paths['/boxes'];
  it.each<[string, (copy: Base) => unknown, string]>([
    ['a path that was removed', (copy) => remove(copy.paths, '/boxes'), 'GET /boxes was removed'],
    ['a method that was removed', (copy) => remove(copy.paths['/boxes'], 'post'), 'POST /boxes was removed'],
    ['another name', (copy) => set(copy.paths['/boxes'].get, { operationId: 'all' }), 'GET /boxes was called list, is called all'],
    ['a parameter that was removed', (copy) => set(copy.paths['/boxes'].get, { parameters: [] }), 'GET /boxes: query parameter limit was removed'],
    ['a parameter that is required now', (copy) => set(copy.paths['/boxes'].get.parameters[0], { required: true }),
      'GET /boxes: query parameter limit is required now'],
    ['a new parameter that is required', (copy) => set(copy.paths['/boxes'].post, { parameters: [{ ...list.parameters[0], in: 'header', required: true }] }),
      'POST /boxes: header parameter limit is required now'],
    ['a parameter that takes less', (copy) => set(copy.paths['/boxes'].get.parameters[0]?.schema, { maximum: 50 }),
      'GET /boxes: query parameter limit: maximum was 100, is 50'],
    ['a body that was removed', (copy) => remove(copy.paths['/boxes'].post, 'requestBody'), 'POST /boxes: its body was removed'],
    ['a body that is required now', (copy) => set(copy.paths['/boxes'].post.requestBody, { required: true }), 'POST /boxes: a body is required now'],
    ['a new body that is required', (copy) => set(copy.paths['/boxes'].get, { requestBody: { ...create.requestBody, required: true } }),
      'GET /boxes: a body is required now'],
    ['a content type that was removed', (copy) => set(copy.paths['/boxes'].post.requestBody, { content: { 'text/plain': { schema: text } } }),
      'POST /boxes: body: application/json was removed'],
    ['a status that was removed', (copy) => remove(copy.paths['/boxes'].post.responses, '409'), 'POST /boxes: answer 409 was removed'],
    ['a header of an answer that was removed', (copy) => remove(copy.paths['/boxes'].get.responses[200].headers, 'Link'),
      'GET /boxes: answer 200: header Link was removed'],
    ['an error code that was removed',
      (copy) => set(copy.paths['/boxes'].post.responses[409].content['application/json'].schema['allOf'], [refer('Failure'), { properties: { code: { enum: ['TAKEN'] } } }]),
      'POST /boxes: answer 409.code: the value "FULL" was removed'],
    ['a token that is needed now', (copy) => set(copy, { security: [{ token: [] }] }), 'security: {} is not enough any more'],
  ])('%s', (_, change, found) => {
    expect(breaksAfter(change)).toContain(found);
  });
});

describe('of a request it finds', () => {
  it.each<[string, (copy: Base) => unknown, string]>([
    ['a field that was removed', (copy) => remove(orderOf(copy).properties, 'size'), 'Order.size was removed'],
    ['a field that is required now', (copy) => orderOf(copy).required.push('size'), 'Order.size is required now'],
    ['a new field that is required', (copy) => set(copy.components.schemas.Order, { required: ['image', 'new'], properties: { ...order.properties, new: text } }),
      'Order.new is required now'],
    ['another type', (copy) => set(orderOf(copy).properties['image'], { type: 'integer' }), 'Order.image may not be string any more'],
    ['whole numbers only', (copy) => set(orderOf(copy).properties['list'], { items: { type: 'string' } }), 'Order.list[] may not be integer any more'],
    ['a null that was removed', (copy) => set(orderOf(copy).properties, { note: text }), 'Order.note may not be null any more'],
    ['a value that was removed', (copy) => set(orderOf(copy).properties['kind'], { enum: ['big'] }), 'Order.kind: the value "small" was removed'],
    ['a choice where any was taken', (copy) => set(orderOf(copy).properties['note'], { anyOf: [{ enum: ['yes'] }, { type: 'null' }] }),
      'Order.note accepts only "yes" now'],
    ['a higher minimum', (copy) => set(orderOf(copy).properties['size'], { minimum: 2 }), 'Order.size: minimum was 1, is 2'],
    ['a lower maximum', (copy) => set(orderOf(copy).properties['size'], { maximum: 9 }), 'Order.size: maximum was 10, is 9'],
    ['a bound where there was none', (copy) => set(orderOf(copy).properties['list'], { maxItems: 3 }), 'Order.list: maxItems was absent, is 3'],
    ['a shorter text', (copy) => set(orderOf(copy).properties['image'], { maxLength: 10 }), 'Order.image: maxLength was 100, is 10'],
    ['another pattern', (copy) => set(orderOf(copy).properties['image'], { pattern: '^b' }), 'Order.image: pattern was "^a", is "^b"'],
    ['another default', (copy) => set(orderOf(copy).properties['size'], { default: 3 }), 'Order.size: default was 2, is 3'],
    ['other fields that are refused now', (copy) => { orderOf(copy).additionalProperties = false; }, 'Order accepts no other fields now'],
    ['other names of fields', (copy) => set(orderOf(copy).properties['env'], { patternProperties: { '^y$': text } }),
      'Order.env: names of its fields were ^x$, are ^y$'],
    ['a change below a field without a fixed name', (copy) => set(orderOf(copy).properties['env'], { patternProperties: { '^x$': { ...text, maxLength: 3 } } }),
      'Order.env.*: maxLength was absent, is 3'],
  ])('%s', (_, change, found) => {
    expect(breaksAfter(change)).toContain(found);
  });
});

describe('of an answer it finds', () => {
  it.each<[string, (copy: Base) => unknown, string]>([
    ['a field that was removed', (copy) => remove(boxOf(copy).properties, 'status'), 'Box.status was removed'],
    ['a field that may be absent now', (copy) => boxOf(copy).required.pop(), 'Box.owner may be absent now'],
    ['a null that no client knows', (copy) => set(boxOf(copy).properties, { id: { anyOf: [text, { type: 'null' }] } }), 'Box.id may be null now'],
    ['another type', (copy) => set(boxOf(copy).properties['id'], { type: 'integer' }), 'Box.id may be integer now'],
    ['a form that was removed', (copy) => set(boxOf(copy).properties, { owner: { type: 'null' } }), 'Box.owner is no longer string'],
    ['a value that was removed', (copy) => set(boxOf(copy).properties['status'], { enum: ['on'] }), 'Box.status: the value "off" was removed'],
    ['elements of another type', (copy) => set(boxOf(copy).properties['tags'], { items: { type: 'integer' } }), 'Box.tags[] may be integer now'],
    ['elements that are not described any more', (copy) => remove(boxOf(copy).properties['tags'] ?? {}, 'items'), 'Box.tags: its elements are no longer described'],
    ['a schema that was removed', (copy) => remove(copy.components.schemas, 'Event'), 'the schema Event was removed'],
    ['a change in the data of events', (copy) => remove(copy.components.schemas.Event.properties, 'at'), 'Event.at was removed'],
  ])('%s', (_, change, found) => {
    expect(breaksAfter(change)).toContain(found);
  });
});

describe('it lets pass', () => {
  const { get: list } = base.paths['/boxes'];
  it.each<[string, (copy: Base) => unknown]>([
    ['a new path', (copy) => set(copy.paths, { '/more': base.paths['/boxes'] })],
    ['a new method', (copy) => set(copy.paths['/boxes'], { delete: list })],
    ['a new parameter that is optional', (copy) => copy.paths['/boxes'].get.parameters.push({ name: 'sort', in: 'query', required: false, schema: { type: 'integer', maximum: 1 } })],
    ['a new body that is optional', (copy) => set(copy.paths['/boxes'].get, { requestBody: { required: false, content: json(text) } })],
    ['a new status', (copy) => set(copy.paths['/boxes'].post.responses, { 410: { content: json(refer('Failure')) } })],
    ['a new content type', (copy) => set(copy.paths['/boxes'].get.responses[200].content, { 'text/plain': { schema: text } })],
    ['a new error code', (copy) => set(copy.paths['/boxes'].post.responses[409].content['application/json'].schema['allOf'],
      [refer('Failure'), { properties: { code: { enum: ['TAKEN', 'FULL', 'LATE'] } } }])],
    ['a new field of a request that is optional', (copy) => set(orderOf(copy).properties, { more: text })],
    ['a new field of an answer', (copy) => set(boxOf(copy).properties, { more: text })],
    ['a new field of an answer that is always there', (copy) => set(copy.components.schemas.Box, { required: ['id', 'owner', 'more'], properties: { ...box.properties, more: text } })],
    ['a field of a request that is not required any more', (copy) => { orderOf(copy).required = []; }],
    ['a field of an answer that is always there now', (copy) => boxOf(copy).required.push('status')],
    ['wider bounds, and none', (copy) => {
      set(orderOf(copy).properties['size'], { minimum: 0, maximum: 20 });
      remove(orderOf(copy).properties['image'] ?? {}, 'pattern');
    }],
    ['any number where whole ones were taken', (copy) => set(orderOf(copy).properties['size'], { type: 'number' })],
    ['a null that a request may be now', (copy) => set(orderOf(copy).properties, { size: { anyOf: [order.properties.size, { type: 'null' }] } })],
    ['a null that an answer is never any more', (copy) => set(boxOf(copy).properties, { owner: text })],
    ['a new value of a request', (copy) => set(orderOf(copy).properties['kind'], { enum: ['big', 'small', 'tiny'] })],
    ['a new value of an answer', (copy) => set(boxOf(copy).properties['status'], { enum: ['on', 'off', 'asleep'] })],
    ['a schema that is written out where it was referred to', (copy) => set(copy.paths['/boxes'].post.responses[201], { content: json(box) })],
    ['another text for readers', (copy) => set(boxOf(copy).properties['id'], { description: 'of the box' })],
  ])('%s', (_, change) => {
    expect(breaksAfter(change)).toEqual([]);
  });
});

it('compares a schema that refers to itself', () => {
  const tree = { ...base, components: { schemas: { ...base.components.schemas, Event: { type: 'object', properties: { at: text, next: refer('Event') } } } } };
  const cut = { ...tree, components: { schemas: { ...tree.components.schemas, Event: { type: 'object', properties: { next: refer('Event') } } } } };
  expect(breakingChanges(tree as ApiDocument, tree as ApiDocument)).toEqual([]);
  expect(breakingChanges(tree as ApiDocument, cut as ApiDocument)).toEqual(['Event.at was removed']);
});

it('finds a break below the one of two forms that fits best', () => {
  const shaped = (first: Schema): ApiDocument => {
    const copy = structuredClone(base) as Base;
    set(orderOf(copy).properties, { shape: { anyOf: [{ type: 'object', properties: { one: first, two: text } }, { type: 'object', properties: { three: text } }] } });
    return copy as ApiDocument;
  };
  expect(breakingChanges(shaped(text), shaped(text))).toEqual([]);
  expect(breakingChanges(shaped(text), shaped({ ...text, maxLength: 2 }))).toEqual(['Order.shape.one: maxLength was absent, is 2']);
});
