// Tests the comparison of two descriptions of the API: each kind of breaking change is found and named, and an addition
// is not a break.
import { describe, expect, it } from 'vitest';
import type { ApiDocument, Schema } from '../../support/api/conformance.ts';
import { breakingChanges } from '../../support/api/openapi-changes.ts';

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
  properties: {
    id: text,
    status: { enum: ['on', 'off'] },
    owner: { anyOf: [text, { type: 'null' }] },
    tags: { type: 'array', items: text },
  },
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
  components: {
    schemas: { Order: order, Box: box, Failure: failure, Event: { type: 'object', properties: { at: text } } },
  },
  security: [{}, { token: [] }],
};
type Base = typeof base;

/** The breaks for a client of `base` after `change` was made in a copy of it. */
function breaksAfter(change: Change): string[] {
  const copy = structuredClone(base);
  change(copy);
  return breakingChanges(base as ApiDocument, copy as ApiDocument);
}

type Change = (copy: Base) => unknown;
type Named = 'Order' | 'Box' | 'Event';
type Fields = Record<string, Schema>;

const fieldsOf = (copy: Base, schema: Named) => copy.components.schemas[schema].properties as Fields;
const set = (target: unknown, values: object) => Object.assign(target as object, values);
/** Puts `values` into the schema of one field. `undefined` removes a keyword. */
const field =
  (schema: Named, name: string, values: Schema): Change =>
  (copy) => {
    const changed = { ...fieldsOf(copy, schema)[name], ...values };
    fieldsOf(copy, schema)[name] = JSON.parse(JSON.stringify(changed)) as Schema;
  };
/** Replaces the schema of a field, or adds a new field. */
const replaced =
  (schema: Named, name: string, by: Schema): Change =>
  (copy) =>
    set(fieldsOf(copy, schema), { [name]: by });
const without =
  (schema: Named, name: string): Change =>
  (copy) =>
    Reflect.deleteProperty(fieldsOf(copy, schema), name);
const required =
  (schema: 'Order' | 'Box', ...names: string[]): Change =>
  (copy) => {
    copy.components.schemas[schema].required = names;
  };
const both =
  (...changes: Change[]): Change =>
  (copy) => {
    changes.forEach((change) => change(copy));
  };
const listing =
  (values: object): Change =>
  (copy) =>
    set(copy.paths['/boxes'].get, values);
const creating =
  (values: object): Change =>
  (copy) =>
    set(copy.paths['/boxes'].post, values);
const refusal = (...codes: string[]) => ({
  409: { content: json({ allOf: [refer('Failure'), { properties: { code: { enum: codes } } }] }) },
});
const plain = { 'text/plain': { schema: text } };
const orNull = (schema: Schema) => ({ anyOf: [schema, { type: 'null' }] });

const { get: list, post: create } = base.paths['/boxes'];
const [limit] = list.parameters;
const { 201: made } = create.responses;

it('the comparison finds nothing between a description and itself', () => {
  expect(breaksAfter(() => undefined)).toEqual([]);
});

describe('the comparison of operations', () => {
  it.each<[what: string, change: Change, found: string]>([
    ['a path that was removed', (copy) => Reflect.deleteProperty(copy.paths, '/boxes'), 'GET /boxes was removed'],
    ['a method that was removed', (copy) => set(copy.paths, { '/boxes': { get: list } }), 'POST /boxes was removed'],
    ['another name', listing({ operationId: 'all' }), 'GET /boxes was called list, is called all'],
    ['a parameter that was removed', listing({ parameters: [] }), 'GET /boxes: query parameter limit was removed'],
    [
      'a parameter that is required now',
      listing({ parameters: [{ ...limit, required: true }] }),
      'GET /boxes: query parameter limit is required now',
    ],
    [
      'a new parameter that is required',
      creating({ parameters: [{ ...limit, required: true }] }),
      'POST /boxes: query parameter limit is required now',
    ],
    [
      'a parameter that takes less',
      listing({ parameters: [{ ...limit, schema: { type: 'integer', maximum: 50 } }] }),
      'GET /boxes: query parameter limit: maximum was 100, is 50',
    ],
    ['a body that was removed', creating({ requestBody: undefined }), 'POST /boxes: its body was removed'],
    [
      'a body that is required now',
      creating({ requestBody: { ...create.requestBody, required: true } }),
      'POST /boxes: a body is required now',
    ],
    [
      'a new body that is required',
      listing({ requestBody: { ...create.requestBody, required: true } }),
      'GET /boxes: a body is required now',
    ],
    [
      'a content type that was removed',
      creating({ requestBody: { ...create.requestBody, content: plain } }),
      'POST /boxes: body: application/json was removed',
    ],
    ['a status that was removed', creating({ responses: { 201: made } }), 'POST /boxes: answer 409 was removed'],
    [
      'a header that was removed',
      listing({ responses: { 200: { ...list.responses[200], headers: {} } } }),
      'GET /boxes: answer 200: header Link was removed',
    ],
    [
      'an error code that was removed',
      creating({ responses: { 201: made, ...refusal('TAKEN') } }),
      'POST /boxes: answer 409.code: the value "FULL" was removed',
    ],
    [
      'a token that is needed now',
      (copy) => set(copy, { security: [{ token: [] }] }),
      'security: {} is not enough any more',
    ],
  ])('finds %s', (_, change, found) => {
    expect(breaksAfter(change)).toContain(found);
  });
});

describe('the comparison of requests', () => {
  it.each<[what: string, change: Change, found: string]>([
    ['a field that was removed', without('Order', 'size'), 'Order.size was removed'],
    ['a field that is required now', required('Order', 'image', 'size'), 'Order.size is required now'],
    [
      'a new field that is required',
      both(replaced('Order', 'new', text), required('Order', 'image', 'new')),
      'Order.new is required now',
    ],
    ['another type', field('Order', 'image', { type: 'integer' }), 'Order.image may not be string any more'],
    ['elements of another type', field('Order', 'list', { items: text }), 'Order.list[] may not be integer any more'],
    ['a null that was removed', replaced('Order', 'note', text), 'Order.note may not be null any more'],
    [
      'a value that was removed',
      field('Order', 'kind', { enum: ['big'] }),
      'Order.kind: the value "small" was removed',
    ],
    [
      'a choice where any was taken',
      replaced('Order', 'note', orNull({ enum: ['yes'] })),
      'Order.note accepts only "yes" now',
    ],
    ['a higher minimum', field('Order', 'size', { minimum: 2 }), 'Order.size: minimum was 1, is 2'],
    ['a lower maximum', field('Order', 'size', { maximum: 9 }), 'Order.size: maximum was 10, is 9'],
    ['a bound where there was none', field('Order', 'list', { maxItems: 3 }), 'Order.list: maxItems was absent, is 3'],
    ['a shorter text', field('Order', 'image', { maxLength: 10 }), 'Order.image: maxLength was 100, is 10'],
    ['another pattern', field('Order', 'image', { pattern: '^b' }), 'Order.image: pattern was "^a", is "^b"'],
    ['another default', field('Order', 'size', { default: 3 }), 'Order.size: default was 2, is 3'],
    [
      'other fields that are refused now',
      (copy) => set(copy.components.schemas.Order, { additionalProperties: false }),
      'Order accepts no other fields now',
    ],
    [
      'other names of fields',
      field('Order', 'env', { patternProperties: { '^y$': text } }),
      'Order.env: names of its fields were ^x$, are ^y$',
    ],
    [
      'a change in fields without fixed names',
      field('Order', 'env', { patternProperties: { '^x$': { ...text, maxLength: 3 } } }),
      'Order.env.*: maxLength was absent, is 3',
    ],
  ])('finds %s', (_, change, found) => {
    expect(breaksAfter(change)).toContain(found);
  });
});

describe('the comparison of answers', () => {
  it.each<[what: string, change: Change, found: string]>([
    ['a field that was removed', without('Box', 'status'), 'Box.status was removed'],
    ['a field that may be absent now', required('Box', 'id'), 'Box.owner may be absent now'],
    ['a null that no client knows', replaced('Box', 'id', orNull(text)), 'Box.id may be null now'],
    ['another type', field('Box', 'id', { type: 'integer' }), 'Box.id may be integer now'],
    ['a form that was removed', replaced('Box', 'owner', { type: 'null' }), 'Box.owner is no longer string'],
    ['a value that was removed', field('Box', 'status', { enum: ['on'] }), 'Box.status: the value "off" was removed'],
    ['elements of another type', field('Box', 'tags', { items: { type: 'integer' } }), 'Box.tags[] may be integer now'],
    [
      'elements that are not described any more',
      field('Box', 'tags', { items: undefined }),
      'Box.tags: its elements are no longer described',
    ],
    [
      'a schema that was removed',
      (copy) => Reflect.deleteProperty(copy.components.schemas, 'Event'),
      'the schema Event was removed',
    ],
    ['a change in the data of events', without('Event', 'at'), 'Event.at was removed'],
  ])('finds %s', (_, change, found) => {
    expect(breaksAfter(change)).toContain(found);
  });
});

describe('the comparison of descriptions', () => {
  const added = { name: 'sort', in: 'query', required: false, schema: { type: 'integer', maximum: 1 } };
  it.each<[what: string, change: Change]>([
    ['a new path', (copy) => set(copy.paths, { '/more': base.paths['/boxes'] })],
    ['a new method', (copy) => set(copy.paths['/boxes'], { delete: list })],
    ['a new parameter that is optional', listing({ parameters: [limit, added] })],
    ['a new body that is optional', listing({ requestBody: { required: false, content: json(text) } })],
    ['a new status', creating({ responses: { ...create.responses, 410: { content: json(refer('Failure')) } } })],
    ['a new content type', (copy) => set(copy.paths['/boxes'].get.responses[200].content, plain)],
    ['a new error code', creating({ responses: { 201: made, ...refusal('TAKEN', 'FULL', 'LATE') } })],
    ['a new field of a request that is optional', replaced('Order', 'more', text)],
    ['a new field of an answer', replaced('Box', 'more', text)],
    [
      'a new field of an answer that is always there',
      both(replaced('Box', 'more', text), required('Box', 'id', 'owner', 'more')),
    ],
    ['a field of a request that is not required any more', required('Order')],
    ['a field of an answer that is always there now', required('Box', 'id', 'owner', 'status')],
    ['wider bounds', field('Order', 'size', { minimum: 0, maximum: 20 })],
    ['no bounds and no pattern any more', field('Order', 'image', { minLength: undefined, pattern: undefined })],
    ['any number where whole ones were taken', field('Order', 'size', { type: 'number' })],
    ['a null that a request may be now', replaced('Order', 'size', orNull(order.properties.size))],
    ['a null that an answer is never any more', replaced('Box', 'owner', text)],
    ['a new value of a request', field('Order', 'kind', { enum: ['big', 'small', 'tiny'] })],
    ['a new value of an answer', field('Box', 'status', { enum: ['on', 'off', 'asleep'] })],
    [
      'a schema that is written out where it was referred to',
      creating({ responses: { ...create.responses, 201: { content: json(box) } } }),
    ],
    ['another text for readers', field('Box', 'id', { description: 'of the box' })],
  ])('allows %s', (_, change) => {
    expect(breaksAfter(change)).toEqual([]);
  });
});

it('the comparison of descriptions works with a schema that refers to itself', () => {
  const tree = (properties: object) => {
    const { schemas } = base.components;
    return { ...base, components: { schemas: { ...schemas, Event: { type: 'object', properties } } } } as ApiDocument;
  };
  const [whole, cut] = [tree({ at: text, next: refer('Event') }), tree({ next: refer('Event') })];
  expect(breakingChanges(whole, whole)).toEqual([]);
  expect(breakingChanges(whole, cut)).toEqual(['Event.at was removed']);
});

it('the comparison of descriptions compares each form with the most similar form of the other description', () => {
  const shaped = (one: Schema): ApiDocument => {
    const copy = structuredClone(base);
    const forms = [{ one, two: text }, { three: text }].map((properties) => ({ type: 'object', properties }));
    replaced('Order', 'shape', { anyOf: forms })(copy);
    return copy as ApiDocument;
  };
  expect(breakingChanges(shaped(text), shaped(text))).toEqual([]);
  expect(breakingChanges(shaped(text), shaped({ ...text, maxLength: 2 }))).toEqual([
    'Order.shape.one: maxLength was absent, is 2',
  ]);
});
