// The operations of the dashboard at /ui: one page with its scripts and style sheets, which speak with the API as every
// other client does. The content security policy allows only these files: no inline scripts or styles, no other host,
// and no frame around the page.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { UiLink } from '../../shared/api.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { loginPath } from '../http/access.ts';
import type { GatewayParts } from '../parts.ts';
import { createUiFiles, type UiFile } from '../ui/ui-files.ts';
import { html, json, text, unchanged, type Operations } from '../openapi/operation.ts';
import type { HandlersOf } from './handler.ts';

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

/** An asset gets a new name when its content changes, so browsers keep it. They ask for the page each time. */
const caching = { page: 'no-cache', asset: 'public, max-age=31536000, immutable' } as const;

export const uiOperations = {
  home: {
    method: 'get',
    path: '/',
    summary: 'Redirect to the dashboard',
    answers: { 302: { description: 'To /ui', content: {}, headers: ['Location'] } },
  },
  uiLink: {
    method: 'post',
    path: '/v1/ui/link',
    summary: 'A one-time link to the dashboard, for a browser',
    answers: { 200: json('The link', UiLink) },
  },
  uiLogin: {
    method: 'get',
    path: loginPath,
    summary: 'The target of the one-time link: sets a cookie',
    query: Type.Object({ code: Type.String({ minLength: 1, maxLength: 64 }) }),
    example: { query: { code: 'wXkq7Rb2' } },
    answers: { 302: { description: 'To /ui', content: {}, headers: ['Location', 'Set-Cookie'] } },
    head: 'none', // A link works once. HEAD would use it up.
  },
  ui: {
    method: 'get',
    path: '/ui',
    summary: 'The dashboard',
    answers: { 200: html('A page'), 304: unchanged },
  },
  uiAsset: {
    method: 'get',
    path: '/ui/assets/{file}',
    summary: 'A script or style sheet of the dashboard',
    answers: {
      200: { description: 'The file', content: { 'text/javascript': text, 'text/css': text, 'image/svg+xml': text } },
      304: unchanged,
    },
    errors: ['NOT_FOUND'],
  },
} as const satisfies Operations;

/**
 * The login of a browser is for servers with a token. An authorised client requests a one-time link. The browser that
 * opens the link gets a cookie instead of the token.
 */
export function createUiHandlers({
  supervisor,
  access,
  address,
  uiDirectory,
}: GatewayParts): HandlersOf<typeof uiOperations> {
  const files = createUiFiles(uiDirectory);
  return {
    home: async ({ reply }) => reply.redirect('/ui', 302),

    uiLink: async ({ reply }) => {
      const base = address();
      if (base === null) {
        throw new BoxRunError('RUNTIME_ERROR', 'the server listens on no TCP address, which a browser needs', {
          hint: 'start it with --port',
        });
      }
      const { code } = await supervisor.request('issueUiCode', {});
      void reply.header('cache-control', 'no-store');
      return { url: `${base}${loginPath}?code=${code}`, expires_in: limits.uiCodeMs / 1000 };
    },

    uiLogin: async ({ reply, query }) => {
      const { code } = query();
      const { valid } = await supervisor.request('redeemUiCode', { code });
      if (!valid) {
        throw new BoxRunError('FORBIDDEN', 'this link was used already, or is too old', {
          hint: '`boxrun ui` prints another one',
        });
      }
      return reply
        .headers({ 'set-cookie': access.newCookie(), 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' })
        .redirect('/ui', 302);
    },

    ui: async ({ request, reply }) => send(request, reply, await files.page(), caching.page),

    uiAsset: async ({ request, reply, path }) => {
      const file = await files.asset(path.file);
      if (file === null)
        throw new BoxRunError('NOT_FOUND', `there is no ${path.file} in the dashboard`, {
          hint: 'load the page anew',
        });
      return send(request, reply, file, caching.asset);
    },
  };
}

function send(request: FastifyRequest, reply: FastifyReply, file: UiFile, cacheControl: string): FastifyReply {
  void reply
    .type(file.type)
    .header('cache-control', cacheControl)
    .header('etag', file.etag)
    .header('vary', 'accept-encoding')
    .header('content-security-policy', policy)
    .header('cross-origin-opener-policy', 'same-origin')
    .header('cross-origin-resource-policy', 'same-origin')
    .header('referrer-policy', 'no-referrer')
    .header('x-content-type-options', 'nosniff');
  if (request.headers['if-none-match'] === file.etag) return reply.code(304).send();
  if (!/\bgzip\b/.test(request.headers['accept-encoding'] ?? '')) return reply.send(file.plain);
  return reply.header('content-encoding', 'gzip').send(file.gzipped);
}
