// The one-time link that lets one browser in at the host name of a port. Its code is valid for that one name only.
// The link to the dashboard has codes of the same kind, but neither is valid for the other.
import type { PortLink } from '../../shared/api.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import type { GatewayParts } from '../parts.ts';
import type { AskedAt } from './port-names.ts';

/** The path of the link, at the host name of the port. */
export const portLoginPath = '/.boxrun/login';

/** @param label the first label of the host name */
export function codePurpose(label: string): string {
  return `port ${label}`;
}

/** @throws RUNTIME_ERROR if no browser can reach the port */
export async function portLink(
  { supervisor, portNames }: Pick<GatewayParts, 'supervisor' | 'portNames'>,
  boxId: string,
  port: number,
  asked: AskedAt,
): Promise<PortLink> {
  const base = portNames.url(boxId, port, asked);
  const name = base === null ? null : portNames.parse(new URL(base).host);
  if (name === null) {
    throw new BoxRunError('RUNTIME_ERROR', 'no browser can reach the ports of boxes by a name of this server', {
      hint: 'start it with --port, and with --allow-host NAME if it does not listen on a loopback address',
    });
  }
  const { code } = await supervisor.request('issueUiCode', { purpose: codePurpose(name.label) });
  return { url: `${base}${portLoginPath}?code=${code}`, expires_in: limits.uiCodeMs / 1_000 };
}
