// What transfers of files have in common: their number per client, and the headers of bytes from a box. A browser never
// shows bytes of a box as a page of this server: they are a download without a type.
import type { FastifyReply } from 'fastify';
import type { GatewayParts } from '../parts.ts';

/** Takes a place for a transfer until the connection of the answer closes. @throws TOO_MANY_REQUESTS */
export function takePlace({ transfers }: Pick<GatewayParts, 'transfers'>, { raw, request }: FastifyReply): void {
  const { remoteAddress } = request.socket;
  transfers.take({ remoteAddress, destroyed: raw.destroyed, once: (event, listener) => raw.once(event, listener) });
}

/** The headers of a download with this file name. */
export function attachment(name: string): Record<string, string> {
  return {
    'content-type': 'application/octet-stream',
    'content-disposition': contentDisposition(name),
    'x-content-type-options': 'nosniff',
  };
}

/** Clients that do not know `filename*` (RFC 6266) get the plain name, in which special characters become `_`. */
function contentDisposition(name: string): string {
  const plain = name.replace(/[^\x20-\x7e]|["\\%]/g, '_');
  if (plain === name) return `attachment; filename="${name}"`;
  const exact = encodeURIComponent(Buffer.from(name).toString()).replace(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${plain}"; filename*=UTF-8''${exact}`;
}
