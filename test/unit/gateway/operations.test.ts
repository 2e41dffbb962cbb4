// Tests the list of operations: its examples are requests that the server accepts, and a route cannot be added twice.
import fastify from 'fastify';
import { describe, expect, it } from 'vitest';
import { fieldNames, createParse, createParseQuery, unknownFields } from '../../../src/gateway/http/validation.ts';
import { requestExample } from '../../../src/gateway/openapi/example.ts';
import type { Operation, Operations } from '../../../src/gateway/openapi/operation.ts';
import { operations } from '../../../src/gateway/routes/all-operations.ts';
import { addRoutes } from '../../../src/gateway/routes/registration.ts';

const all: readonly (readonly [string, Operation])[] = Object.entries(operations);

/** The example of such a body is a file. */
const bytes = 'application/octet-stream';

describe('the example of an operation', () => {
  it.each(all.filter(([, { body }]) => body !== undefined && body.contentType !== bytes))(
    'has a body that fits: %s',
    (_id, { body, example }) => {
      if (body === undefined) throw new Error('the operation has no body');
      expect(unknownFields(body.schema, example?.body)).toEqual([]);
      expect(() => createParse(body.schema)(example?.body)).not.toThrow();
    },
  );

  it.each(all.filter(([, { query }]) => query !== undefined))(
    'has a query that fits: %s',
    (_id, { query, example }) => {
      if (query === undefined) throw new Error('the operation has no query');
      const given = example?.query ?? {};
      expect(fieldNames(query)).toEqual(expect.arrayContaining(Object.keys(given)));
      expect(() => createParseQuery(query)(given)).not.toThrow();
    },
  );

  it('is a command line that a shell understands', () => {
    expect(requestExample(operations.getBox)).toBe('curl $BOXRUN/v1/boxes/web');
    expect(requestExample(operations.listBoxes)).toBe('curl "$BOXRUN/v1/boxes?status=running&label=team%3Dblue"');
    expect(requestExample(operations.stopBox)).toBe(
      `curl -X POST $BOXRUN/v1/boxes/web:stop -H 'Content-Type: application/json' -d '{"grace_s":2}'`,
    );
    expect(requestExample(operations.upload)).toBe(
      'curl -X POST $BOXRUN/v1/boxes/web/files/upload -F file=@notes.txt -F dest=/root/notes.txt',
    );
    expect(requestExample(operations.attach)).toBe('a WebSocket to "$BOXRUN/v1/boxes/web/attach?cols=120&rows=40"');
    const body = { note: "it's" };
    expect(requestExample({ ...operations.signalExec, example: { body } })).toContain(`-d '{"note":"it'\\''s"}'`);
  });
});

it('two operations with the same method and path are refused', async () => {
  const one = { method: 'get', path: '/v1/x/{box}:y', summary: 'x', answers: {} } as const;
  const both: Operations = { one, other: one };
  const handlers = { one: async () => Promise.reject(new Error()), other: async () => Promise.reject(new Error()) };
  await expect(addRoutes(fastify(), both, handlers)).rejects.toThrow('other has the method and path');
});
