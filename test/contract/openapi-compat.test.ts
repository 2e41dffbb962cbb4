// The API against that of an earlier version: a client that was written for it can go on. What breaks one is found by
// test/support/api/openapi-changes.ts; openapi.test.ts holds the description against the routes and their answers.
import { expect, it } from 'vitest';
import { createOpenApiDocument } from '../../src/gateway/openapi/document.ts';
import type { ApiDocument } from '../support/api/conformance.ts';
import { oldApiDocument } from '../support/servers/old-program.ts';
import { breakingChanges } from '../support/api/openapi-changes.ts';

/** Changes of a pattern, as the comparison words them: somebody has made sure that it takes everything that it took. */
const judgedHarmless: readonly string[] = [];

it('removes nothing, and requires nothing new', async () => {
  const now = JSON.parse(JSON.stringify(createOpenApiDocument('now'))) as ApiDocument;
  const changes = breakingChanges((await oldApiDocument()) as ApiDocument, now);
  expect(changes.filter((line) => !judgedHarmless.includes(line))).toEqual([]);
  expect(changes).toEqual(expect.arrayContaining([...judgedHarmless])); // None of them is left behind.
});
