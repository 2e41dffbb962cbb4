// The routes of the dashboard at /ui: one page with its scripts and style sheets, which speak with the API as every
// other client does. The content security policy allows only these files: no inline scripts or styles, no other host,
// and no frame around the page.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { UiLink } from '../../shared/api.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { loginPath } from '../http/access.ts';
import type { GatewayParts } from '../parts.ts';
import { createUiFiles, type UiFile } from '../ui/ui-files.ts';
import { createParseQuery, LoginQuery } from '../http/validation.ts';

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

const parseLogin = createParseQuery(LoginQuery);

export function addUiRoutes(app: FastifyInstance, parts: GatewayParts): void {
  addLoginRoutes(app, parts);
  const files = createUiFiles(parts.uiDirectory);
  app.get('/', async (_request, reply) => reply.redirect('/ui', 302));
  app.get('/ui', async (request, reply) => send(request, reply, await files.page(), caching.page));
  app.get<{ Params: { file: string } }>('/ui/assets/:file', async (request, reply) => {
    const file = await files.asset(request.params.file);
    if (file === null)
      throw new BoxRunError('NOT_FOUND', `there is no ${request.params.file} in the dashboard`, {
        hint: 'load the page anew',
      });
    return send(request, reply, file, caching.asset);
  });
}

/**
 * The login of a browser, for servers with a token. An authorised client requests a one-time link. The browser that
 * opens the link gets a cookie instead of the token.
 */
function addLoginRoutes(app: FastifyInstance, { supervisor, access, address }: GatewayParts): void {
  app.post('/v1/ui/link', async (_request, reply): Promise<UiLink> => {
    const base = address();
    if (base === null) {
      throw new BoxRunError('RUNTIME_ERROR', 'the server listens on no TCP address, which a browser needs', {
        hint: 'start it with --port',
      });
    }
    const { code } = await supervisor.request('issueUiCode', {});
    void reply.header('cache-control', 'no-store');
    return { url: `${base}${loginPath}?code=${code}`, expires_in: limits.uiCodeMs / 1000 };
  });
  app.get(loginPath, { exposeHeadRoute: false }, async (request, reply) => {
    const { code } = parseLogin(request.query);
    const { valid } = await supervisor.request('redeemUiCode', { code });
    if (!valid) {
      throw new BoxRunError('FORBIDDEN', 'this link was used already, or is too old', {
        hint: '`boxrun ui` prints another one',
      });
    }
    return reply
      .headers({ 'set-cookie': access.newCookie(), 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' })
      .redirect('/ui', 302);
  });
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
