// The headers that a request and its answer keep on the way between a client and a port of a box. The token and the
// cookies of BoxRun never reach the box, and the box cannot set such cookies. Headers of one connection stay there.
import type { IncomingMessage } from 'node:http';
import type { Access } from '../http/access.ts';

/** RFC 9110, 7.6.1, and `expect`, which Node has answered already. */
const ofConnection = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'proxy-authenticate', 'proxy-authorization'],
  ...['te', 'trailer', 'transfer-encoding', 'upgrade', 'expect', 'http2-settings'],
]);

type Header = readonly [name: string, value: string];

/**
 * The headers for the box, as a flat list for Node.
 * @param upgrade the protocol that the client asks for; null for none
 */
export function headersForBox(
  request: IncomingMessage,
  access: Pick<Access, 'hasToken' | 'withoutOwnCookies'>,
  upgrade: string | null,
): string[] {
  const { headers } = request;
  const kept = keptOf(request).flatMap(([name, value]): Header[] => {
    const lower = name.toLowerCase();
    if (lower === 'host' || (lower === 'authorization' && access.hasToken(value))) return [];
    if (lower !== 'cookie') return [[name, value]];
    const cookies = access.withoutOwnCookies(value);
    return cookies === '' ? [] : [[name, cookies]];
  });
  // Node writes the body in the form that these headers announce.
  const framing: Header[] = headers['transfer-encoding'] === undefined ? [] : [['Transfer-Encoding', 'chunked']];
  const connection: Header[] =
    upgrade === null
      ? [['Connection', 'close']]
      : [
          ['Connection', 'Upgrade'],
          ['Upgrade', upgrade],
        ];
  return [['Host', headers.host ?? ''] as Header, ...kept, ...framing, ...connection].flat();
}

/** The headers for the client, as a flat list for Node. */
export function headersForClient(answer: IncomingMessage, access: Pick<Access, 'isOwnCookie'>): string[] {
  return keptOf(answer)
    .filter(([name, value]) => name.toLowerCase() !== 'set-cookie' || !access.isOwnCookie(value))
    .flat();
}

function keptOf({ rawHeaders, headers }: IncomingMessage): Header[] {
  const named = new Set((headers.connection ?? '').split(',').map((name) => name.trim().toLowerCase()));
  const pairs = Array.from({ length: rawHeaders.length / 2 }, (_, at): Header => {
    return [rawHeaders[2 * at] ?? '', rawHeaders[2 * at + 1] ?? ''];
  });
  return pairs.filter(([name]) => !ofConnection.has(name.toLowerCase()) && !named.has(name.toLowerCase()));
}
