// The network of a box with `network: true`. slirp4netns gives the box's network namespace an interface, and carries
// its traffic as ordinary connections from the host. Rules in that namespace keep the box away from all addresses of
// the host. The box cannot change them, because it lacks NET_ADMIN. slirp4netns ends when the box's monitor ends.
import { spawn } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { BlockList } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { Duplex } from 'node:stream';
import {
  isAlive,
  killQuietly,
  processIdentity,
  type ProcessIdentity,
} from '../../../../shared/process/child-process.ts';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { homeMark } from '../../../../shared/host/host-marks.ts';
import type { BoxPaths } from '../paths.ts';
import { nameserver6, needsIpv6, readHostResolver } from './resolver.ts';
import { lastLines, mustRun, needTool, toolPath } from '../host/tools.ts';

const readyTimeoutMs = 10_000;
const rulesTimeoutMs = 10_000;
const checkMs = 5_000;

/**
 * Addresses that are never a service on another host: this network, loopback, link-local (cloud metadata), and
 * everything from 224.0.0.0 on (multicast, reserved, broadcast). 10.0.2.2 is slirp4netns' gateway, which stands for the
 * host.
 */
const blockedAlways = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0-255.255.255.255', '10.0.2.2'];

/**
 * Connects a box's network namespace. It sets the rules first, then it starts slirp4netns.
 * @param init the box's first process
 * @returns the process of slirp4netns
 * @throws RUNTIME_ERROR, TIMEOUT
 */
export async function connectBox(paths: BoxPaths, init: ProcessIdentity): Promise<ProcessIdentity> {
  const hasIpv6 = needsIpv6(readHostResolver());
  await setRules(init, initialRules(hostAddresses(), hasIpv6));
  const program = await needTool('slirp4netns');
  const log = openSync(paths.networkLog, 'a', 0o600);
  const alive = openSync(paths.alive, constants.O_RDONLY | constants.O_NONBLOCK);
  const child = spawn(
    program,
    [
      ...['--configure', '--mtu=65520', '--disable-host-loopback', '--enable-sandbox', '--enable-seccomp'],
      ...(hasIpv6 ? ['--enable-ipv6'] : []),
      ...['--ready-fd=3', '--exit-fd=4', String(init.pid), 'tap0'],
    ],
    {
      cwd: '/',
      detached: true,
      stdio: ['ignore', log, log, 'pipe', alive],
      env: { PATH: toolPath, [homeMark]: paths.home },
    },
  );
  closeSync(log);
  closeSync(alive);
  child.unref();
  const readyPipe = child.stdio[3] as Duplex;
  const isReady = new Promise<boolean>((resolve) => {
    readyPipe.once('data', () => {
      resolve(true);
    });
    readyPipe.once('end', () => {
      resolve(false);
    });
    child.once('error', () => {
      resolve(false);
    });
  });
  const up = await withDeadline(isReady, readyTimeoutMs, 'connecting the box to the network').finally(() =>
    readyPipe.destroy(),
  );
  const identity = child.pid === undefined ? null : await processIdentity(child.pid);
  if (up && identity !== null) return identity;
  const text = await readFile(paths.networkLog, 'utf8').catch(() => '');
  throw new BoxRunError('RUNTIME_ERROR', `the box could not be connected to the network: ${lastLines(text)}`);
}

interface NetworkWatch {
  readonly init: ProcessIdentity;
  readonly network: ProcessIdentity;
  /** Called when slirp4netns has ended and a new one has been started. */
  readonly onReplaced: (network: ProcessIdentity) => void;
  readonly onTrouble: (error: unknown) => void;
}

/**
 * Updates the rules when the host's addresses change, and starts slirp4netns again when it has ended. It checks every
 * five seconds.
 * @returns a function that ends the checks
 */
export function keepConnected(paths: BoxPaths, { init, network, onReplaced, onTrouble }: NetworkWatch): () => void {
  let known = hostAddresses().join(' ');
  let current = network;
  let closed = false;
  const check = async () => {
    const now = hostAddresses();
    if (now.join(' ') !== known) {
      await setRules(init, replacedAddresses(now));
      known = now.join(' ');
    }
    if ((await isAlive(current)) || closed || !(await isAlive(init))) return;
    current = await connectBox(paths, init);
    if (closed) killQuietly(current.pid, 'SIGKILL');
    else onReplaced(current);
  };
  let checking = false;
  const timer = setInterval(() => {
    if (checking) return;
    checking = true;
    void check()
      .catch(onTrouble)
      .finally(() => {
        checking = false;
      });
  }, checkMs);
  timer.unref();
  return () => {
    closed = true;
    clearInterval(timer);
  };
}

/** IPv4 addresses of this host's interfaces. IPv6 needs no list: by it a box reaches only the name server. */
export function hostAddresses(): string[] {
  const addresses = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .filter(
      (entry) => entry.family === 'IPv4' && !entry.address.startsWith('127.') && !entry.address.startsWith('169.254.'),
    )
    .map((entry) => entry.address);
  return [...new Set(addresses)].sort();
}

/**
 * True if the box's rules refuse this IPv4 address of the host's resolv.conf, or if it is in 10.0.2.0/24, which is
 * slirp4netns' own network in a box.
 */
export function isBlocked(address: string): boolean {
  const blocked = new BlockList();
  for (const own of hostAddresses()) blocked.addAddress(own);
  for (const [network = '', bits] of blockedAlways.map((block) => block.split('/'))) {
    if (bits !== undefined) blocked.addSubnet(network, Number(bits));
  }
  blocked.addRange('224.0.0.0', '255.255.255.255');
  blocked.addSubnet('10.0.2.0', 24);
  return blocked.check(address);
}

/** Rules for a host that has only IPv6 name servers: DNS to that one address, and neighbor discovery for it. */
const nameRules = `
    ip6 daddr ${nameserver6} meta l4proto { tcp, udp } th dport 53 accept
    icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept`;

function initialRules(addresses: readonly string[], hasIpv6: boolean): string {
  return `
add table inet boxrun
delete table inet boxrun
table inet boxrun {
  set never { type ipv4_addr; flags interval; elements = { ${blockedAlways.join(', ')} } }
  set host { type ipv4_addr; ${elements(addresses)} }
  chain out {
    type filter hook output priority 0; policy accept;
    oifname "lo" accept
    ip daddr @never reject
    ip daddr @host reject${hasIpv6 ? nameRules : ''}
    meta nfproto ipv6 reject
  }
}
`;
}

function replacedAddresses(addresses: readonly string[]): string {
  const add = addresses.length === 0 ? '' : `add element inet boxrun host { ${addresses.join(', ')} }\n`;
  return `flush set inet boxrun host\n${add}`;
}

function elements(addresses: readonly string[]): string {
  return addresses.length === 0 ? '' : `elements = { ${addresses.join(', ')} }`;
}

async function setRules(init: ProcessIdentity, rules: string): Promise<void> {
  const nft = await needTool('nft');
  await mustRun('nsenter', [`--net=/proc/${init.pid}/ns/net`, nft, '-f', '-'], {
    timeoutMs: rulesTimeoutMs,
    input: rules,
  });
}
