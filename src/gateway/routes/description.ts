// The operations that describe the API: /openapi.json for programs, /docs for people.
// Both texts are made once, when the gateway starts, and are the same for every client.
import { Type } from 'typebox';
import packageJson from '../../../package.json' with { type: 'json' };
import { createOpenApiDocument } from '../openapi/document.ts';
import { html, json, text, type Operations } from '../openapi/operation.ts';
import { renderPage } from '../openapi/page.ts';
import type { HandlersOf } from './handler.ts';

export const descriptionOperations = {
  docs: {
    method: 'get',
    path: '/docs',
    summary: 'This description, to be read by people',
    answers: { 200: html('A page') },
  },
  openapi: {
    method: 'get',
    path: '/openapi.json',
    summary: 'This description',
    answers: { 200: json('OpenAPI 3.1', Type.Object({ openapi: text })) },
  },
} as const satisfies Operations;

/** @param operations all operations of the server */
export function createDescriptionHandlers(operations: Operations): HandlersOf<typeof descriptionOperations> {
  const document = createOpenApiDocument(operations, packageJson.version);
  const documentText = JSON.stringify(document);
  const page = renderPage(document, operations);
  return {
    docs: async ({ reply }) =>
      reply
        .type('text/html; charset=utf-8')
        .header(
          'content-security-policy',
          "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
        )
        .header('x-content-type-options', 'nosniff')
        .send(page),

    openapi: async ({ reply }) => reply.type('application/json; charset=utf-8').send(documentText),
  };
}
