// Decides which requests may reach a port of a box by its host name. A browser needs the cookie of that one host name,
// with or without a token: so no page of another origin can use a port whose name it has found. Another program needs
// the token, if the server has one. The Unix socket is not checked, as for the API.
import type { IncomingMessage } from 'node:http';
import { BoxRunError } from '../../shared/errors.ts';
import type { Access } from '../http/access.ts';

export interface PortGuard {
  /** @param label of the host name @throws UNAUTHORIZED, FORBIDDEN */
  check(request: IncomingMessage, label: string): void;
}

interface PortGuardDeps {
  readonly access: Pick<Access, 'needsToken' | 'hasToken' | 'hasPortCookie'>;
  readonly isLocal: (socket: object) => boolean;
}

export function createPortGuard({ access, isLocal }: PortGuardDeps): PortGuard {
  return {
    check(request, label) {
      const { authorization, cookie } = request.headers;
      if (isLocal(request.socket) || access.hasToken(authorization)) return;
      if (access.hasPortCookie(cookie, label)) {
        checkSource(request);
        return;
      }
      if (!access.needsToken && !isOfBrowser(request)) return;
      throw new BoxRunError('UNAUTHORIZED', 'this port of a box needs a login', {
        hint: '`boxrun url BOX PORT` prints a link that lets a browser in; programs send Authorization: Bearer TOKEN',
      });
    },
  };
}

/** Programs send none of these headers, unless they mean to look like a browser. */
function isOfBrowser({ headers }: IncomingMessage): boolean {
  const { origin, 'user-agent': agent = '' } = headers;
  return (
    origin !== undefined ||
    Object.keys(headers).some((name) => /^sec-(fetch|ch)-/.test(name)) ||
    /^mozilla\//i.test(agent)
  );
}

/**
 * Browsers send the cookie with some requests of other pages, too. Only a page of this host name may send requests. A
 * page of another one may lead the user here, into a window of its own.
 * @throws FORBIDDEN
 */
function checkSource({ method = '', headers }: IncomingMessage): void {
  const { origin, host, 'sec-fetch-site': site, 'sec-fetch-mode': mode, 'sec-fetch-dest': destination } = headers;
  const isOwn = origin === undefined || (URL.canParse(origin) && new URL(origin).host === host?.toLowerCase());
  const isVisit = (method === 'GET' || method === 'HEAD') && mode === 'navigate' && destination === 'document';
  const isForeign = site !== undefined && site !== 'same-origin' && site !== 'none';
  if (isOwn && (!isForeign || isVisit)) return;
  throw new BoxRunError('FORBIDDEN', `pages of ${origin ?? 'other origins'} may not use this port of a box`);
}
