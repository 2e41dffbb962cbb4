// What a box with a network finds in its /etc/resolv.conf, made out of the host's (resolv.conf(5)). The first name
// server is always slirp4netns, which asks the host's first one, also where only the host itself can reach that. The
// others are asked directly.
import { readFileSync, realpathSync } from 'node:fs';
import { isIPv4, isIPv6 } from 'node:net';

/** slirp4netns answers here, by the host's first name server with an IPv4 address ... */
export const nameserver = '10.0.2.3';
/** ... and here by the first one with an IPv6 address. */
export const nameserver6 = 'fd00::3';

const hostFile = '/etc/resolv.conf';
/** slirp4netns shuts itself in and sees these directories of the host only. */
const seenBySlirp = ['/etc/', '/run/'];
/** The C library asks three. */
const serversMax = 3;
const wordPattern = /^[A-Za-z0-9_.:-]+$/;

export interface HostResolver {
  readonly text: string;
  /** Whether slirp4netns can read it, wherever the file's link leads. */
  readonly isSeenBySlirp: boolean;
}

/** Empty where the host has none. */
export function readHostResolver(): HostResolver {
  try {
    const path = realpathSync(hostFile);
    return {
      text: readFileSync(path, 'utf8'),
      isSeenBySlirp: seenBySlirp.some((directory) => path.startsWith(directory)),
    };
  } catch {
    return { text: '', isSeenBySlirp: true };
  }
}

/** Whether names can only be asked for by IPv6: boxes have none otherwise. */
export function needsIpv6({ text }: HostResolver): boolean {
  const servers = serversOf(text);
  return !servers.some(isIPv4) && servers.some((address) => isIPv6(address));
}

/** @param closed whether a box may not reach this IPv4 address */
export function boxResolver(host: HostResolver, closed: (address: string) => boolean): string {
  const servers = serversOf(host.text).filter(isIPv4);
  const reachable = servers.filter((address) => !closed(address));
  const direct = host.isSeenBySlirp ? reachable.filter((address) => address !== servers[0]) : reachable;
  const first = host.isSeenBySlirp || direct.length === 0 ? [needsIpv6(host) ? nameserver6 : nameserver] : [];
  const lines = [...first, ...direct].slice(0, serversMax).map((address) => `nameserver ${address}`);
  return `${[...lines, ...settings(host.text)].join('\n')}\n`;
}

function serversOf(text: string): string[] {
  return linesOf(text)
    .filter(([keyword]) => keyword === 'nameserver')
    .map(([, address = '']) => address);
}

/** Of `search` and `domain` the last one counts; all lines of `options` do. */
function settings(text: string): string[] {
  const lines = linesOf(text).filter((words) => words.length > 1 && words.every((word) => wordPattern.test(word)));
  const search = lines.findLast(([keyword]) => keyword === 'search' || keyword === 'domain');
  const options = lines.filter(([keyword]) => keyword === 'options');
  return [...(search === undefined ? [] : [search]), ...options].map((words) => words.join(' '));
}

function linesOf(text: string): string[][] {
  return text
    .split('\n')
    .filter((line) => !/^\s*[#;]/.test(line))
    .map((line) => line.trim().split(/\s+/));
}
