// Makes the /etc/resolv.conf of a box with a network out of the host's (resolv.conf(5)). The first name server is
// slirp4netns, which asks the host's first one, even if only the host itself can reach that. The box asks the other
// name servers directly. If slirp4netns cannot read the host's file, the box asks directly all servers that it may
// reach, and slirp4netns only if there are none.
import { readFileSync, realpathSync } from 'node:fs';
import { isIPv4, isIPv6 } from 'node:net';

/** Address of slirp4netns in the box. It asks the host's first name server that has an IPv4 address. */
export const nameserver = '10.0.2.3';
/** Second address of slirp4netns in the box. It asks the host's first name server that has an IPv6 address. */
export const nameserver6 = 'fd00::3';

const hostFile = '/etc/resolv.conf';
/** slirp4netns runs in a sandbox and sees only these directories of the host. */
const seenBySlirp = ['/etc/', '/run/'];
/** The C library uses at most three. */
const serversMax = 3;
const wordPattern = /^[A-Za-z0-9_.:-]+$/;

export interface HostResolver {
  readonly text: string;
  /** True if slirp4netns can read the file. The host's file is often a link to another directory. */
  readonly isSeenBySlirp: boolean;
}

/** Reads the host's file. The text is empty if the host has none. */
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

/** True if the host has name servers, but only IPv6 ones. In all other cases a box has no IPv6. */
export function needsIpv6({ text }: HostResolver): boolean {
  const servers = serversOf(text);
  return !servers.some(isIPv4) && servers.some((address) => isIPv6(address));
}

/**
 * Returns the text of the box's file.
 * @param isBlocked true if a box may not ask this IPv4 address
 */
export function boxResolver(host: HostResolver, isBlocked: (address: string) => boolean): string {
  const servers = serversOf(host.text).filter(isIPv4);
  const reachable = servers.filter((address) => !isBlocked(address));
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

/** Of all `search` and `domain` lines only the last one has an effect, but all `options` lines have. */
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
