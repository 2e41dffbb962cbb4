// The page at /ui: what this server is and where its API lies. It loads nothing and runs no script. Where a token is set, a
// one-time link leads to it: who may command the server asks for one, and the browser that follows it gets a cookie.
import type { FastifyInstance } from 'fastify';
import type { UiLink } from '../../shared/api.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { loginPath } from '../access.ts';
import type { GatewayParts } from '../parts.ts';
import { createParseQuery, LoginQuery } from '../validation.ts';

const endpoints: readonly (readonly [string, string])[] = [
  ['GET /v1/info', 'limits and driver of this server'],
  ['POST /v1/boxes', 'create a box and start it'],
  ['GET /v1/boxes', 'list boxes, newest first (?status=running|stopped|creating|error|all)'],
  ['GET /v1/boxes/{box}', 'one box, by id or name'],
  ['POST /v1/boxes/{box}:start', 'start a stopped box'],
  ['POST /v1/boxes/{box}:stop', 'stop a running box; its disk stays'],
  ['DELETE /v1/boxes/{box}', 'remove a box (?force=true for a running one)'],
  ['POST /v1/boxes/{box}/exec', 'start a command in a box'],
  ['GET /v1/boxes/{box}/execs', 'the commands of a box, newest first'],
  ['GET /v1/boxes/{box}/exec/{exec}', 'one command'],
  ['GET /v1/boxes/{box}/exec/{exec}/events', 'its output and its exit, as server-sent events'],
  ['POST /v1/boxes/{box}/exec/{exec}:cancel', 'kill a command and everything that it has started'],
  ['POST /v1/run', 'run one command in a box of its own'],
  ['POST /v1/gc', 'remove boxes that are stopped for long'],
  ['GET /healthz, /readyz, /metrics', 'is the server alive, is it ready, what does it do'],
];

const rows = endpoints.map(([path, what]) => `<tr><td><code>${path}</code></td><td>${what}</td></tr>`).join('\n');

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>BoxRun</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }
table { border-collapse: collapse; display: block; overflow-x: auto }
td { padding: .3rem 1rem .3rem 0; vertical-align: top; border-top: 1px solid #8884 }
</style>
</head>
<body>
<h1>BoxRun</h1>
<p>This server runs isolated Linux boxes on this host. It is used through its API, and through the command line:
<code>boxrun --help</code>.</p>
<table>
${rows}
</table>
</body>
</html>
`;

const parseLogin = createParseQuery(LoginQuery);

export function addUiRoutes(app: FastifyInstance, { supervisor, access, address }: GatewayParts): void {
  app.post('/v1/ui/link', async (_request, reply): Promise<UiLink> => {
    const base = address();
    if (base === null) {
      throw new BoxRunError('RUNTIME_ERROR', 'the server listens on no TCP address, which a browser needs', { hint: 'start it with --port' });
    }
    const { code } = await supervisor.request('issueUiCode', {});
    void reply.header('cache-control', 'no-store');
    return { url: `${base}${loginPath}?code=${code}`, expires_in: limits.uiCodeMs / 1000 };
  });
  app.get(loginPath, { exposeHeadRoute: false }, async (request, reply) => {
    const { code } = parseLogin(request.query);
    const { valid } = await supervisor.request('redeemUiCode', { code });
    if (!valid) {
      throw new BoxRunError('FORBIDDEN', 'this link was used already, or is too old', { hint: '`boxrun ui` prints another one' });
    }
    return reply
      .headers({ 'set-cookie': access.newCookie(), 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' })
      .redirect('/ui', 302);
  });
  app.get('/', async (_request, reply) => reply.redirect('/ui', 302));
  app.get('/ui', async (_request, reply) =>
    reply
      .type('text/html; charset=utf-8')
      .header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
      .header('x-content-type-options', 'nosniff')
      .send(page),
  );
}
