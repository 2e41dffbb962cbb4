// Compares the API description with that of an earlier version, so that an old client still works. Uses
// test/support/api/openapi-changes.ts. openapi.test.ts compares the description with real answers.
import { expect, it } from 'vitest';
import { createOpenApiDocument } from '../../src/gateway/openapi/document.ts';
import { operations } from '../../src/gateway/routes/all-operations.ts';
import type { ApiDocument } from '../support/api/conformance.ts';
import { oldApiDocument } from '../support/servers/old-program.ts';
import { breakingChanges } from '../support/api/openapi-changes.ts';

/**
 * Changes of patterns, in the words of the comparison. The comparison cannot judge them. The author of the change has
 * checked that the new pattern accepts everything that the old one accepted.
 */
const judgedHarmless: readonly string[] = [];

it('the API removes nothing and requires nothing new since the earlier version', async () => {
  const now = JSON.parse(JSON.stringify(createOpenApiDocument(operations, 'now'))) as ApiDocument;
  const changes = breakingChanges((await oldApiDocument()) as ApiDocument, now);
  expect(changes.filter((line) => !judgedHarmless.includes(line))).toEqual([]);
  expect(changes).toEqual(expect.arrayContaining([...judgedHarmless])); // No entry is out of date.
});
