// The host names of ports. A port of a box has a name of its own, such as `8080-0f3c….localhost`: an origin of its own
// for browsers. The part behind the port is the random part of the box's id in hexadecimal, because ids have capital
// letters, and host names do not distinguish them. So a name leads to its box without a table.
import { isIP } from 'node:net';
import type { Config } from '../../shared/settings/config.ts';

export interface PortName {
  readonly boxId: string;
  readonly port: number;
  /** The first label of the host name, such as `8080-0f3c…`. */
  readonly label: string;
}

export interface PortNames {
  /** The port that a Host header names; null for every other host. */
  parse(host: string | undefined): PortName | null;
  /**
   * The URL of a port, without a slash at its end; null if no browser could reach it.
   * @param asked the Host header of the request that asks, and whether a proxy in front took it over TLS
   */
  url(boxId: string, port: number, asked: AskedAt): string | null;
}

export interface AskedAt {
  readonly host: string | undefined;
  readonly isSecure: boolean;
}

const loopbackName = 'localhost';
/** Addresses of the server at which `localhost` reaches it. */
const reachedByLoopback = new Set(['127.0.0.1', '::1', 'localhost', '0.0.0.0', '::']);

/** @param tcp the address of the server with its real port, or null */
export function createPortNames(
  config: Pick<Config, 'allowedHosts'>,
  tcp: () => { readonly host: string; readonly port: number } | null,
): PortNames {
  const named = config.allowedHosts.filter((name) => isIP(name.replace(/^\[|\]$/g, '')) === 0);
  const domains = new Set([loopbackName, ...named]);

  return {
    parse(host) {
      const [, label = '', port = '', hex = '', domain = ''] =
        /^(([1-9]\d{0,4})-([0-9a-f]{18}))\.([a-z0-9._-]+)(?::\d{1,5})?$/.exec(host?.toLowerCase() ?? '') ?? [];
      if (!domains.has(domain) || Number(port) > 65_535) return null;
      return { boxId: `box_${Buffer.from(hex, 'hex').toString('base64url')}`, port: Number(port), label };
    },
    url(boxId, port, { host, isSecure }) {
      const hex = Buffer.from(boxId.slice('box_'.length), 'base64url').toString('hex');
      const [, asked = '', askedPort = ''] = /^([^:]+)(:\d{1,5})?$/.exec(host?.toLowerCase() ?? '') ?? [];
      if (named.includes(asked)) return `${isSecure ? 'https' : 'http'}://${port}-${hex}.${asked}${askedPort}`;
      const address = tcp();
      if (address === null) return null;
      const domain = reachedByLoopback.has(address.host) ? loopbackName : named[0];
      return domain === undefined ? null : `http://${port}-${hex}.${domain}:${address.port}`;
    },
  };
}
