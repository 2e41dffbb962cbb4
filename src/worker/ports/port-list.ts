// The script that finds the listening TCP ports of a box, and the reader of what it prints. The box wrote all of that
// text, so a line that is not as expected is left out. The form of /proc/net/tcp is in proc_net_tcp.txt of the kernel.
import type { ListeningPort } from '../../shared/api.ts';

/** What the script prints first if the port did not listen in time. */
export const lateText = 'late';

/**
 * $1 a port as four hexadecimal digits, or nothing; $2 how often to look again for it; $3 seconds between two looks.
 *
 * It prints three parts, each after a line `--`: sockets, the descriptors of processes, and their words. Only the owner
 * of a process, and root of the box if the process belongs to root, may see its descriptors.
 */
export const portsScript = `
listening() { cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep '^ *[0-9]*: [0-9A-F]*:'"$1"' [0-9A-F:]* 0A '; }
if [ -n "$1" ]; then
  left=$2
  until listening "$1" >/dev/null; do
    [ "$left" -gt 0 ] || { echo ${lateText}; exit 0; }
    left=$((left - 1))
    sleep "$3"
  done
fi
listening '[0-9A-F]*'
echo --
ls -l /proc/[0-9]*/fd 2>/dev/null | grep -e '^/proc/' -e ' -> socket:'
echo --
grep -H "" /proc/[0-9]*/cmdline 2>/dev/null
true
`;

/** Ports in one list. The rest is left out. */
const portsMax = 1_024;

/** Reads what `portsScript` printed: the ports in their order, each address of a port once. */
export function listeningPorts(text: string): ListeningPort[] {
  const [sockets = '', descriptors = '', words = ''] = text.split(/^--\n/m);
  const pids = pidsBySocket(descriptors);
  const commands = new Map(
    [...words.matchAll(/^\/proc\/(\d+)\/cmdline:(.*)$/gm)].map(([, pid, line = '']) => [
      Number(pid),
      line.replace(/\0$/, '').replaceAll('\0', ' '),
    ]),
  );
  const found = new Map<string, ListeningPort>();
  for (const line of sockets.split('\n')) {
    const [, ip = '', hexPort = '', inode = ''] =
      /^\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) \S+ 0A (?:\S+ +){5}(\d+)/.exec(line) ?? [];
    if (ip === '') continue;
    const port = Number.parseInt(hexPort, 16);
    const address = ip.length === 8 ? ipv4Of(ip) : ipv6Of(ip);
    const pid = pids.get(inode) ?? null;
    found.set(`${port} ${address}`, {
      port,
      address,
      pid,
      command: pid === null ? null : (commands.get(pid) ?? null),
    });
  }
  return [...found.values()].sort((one, other) => one.port - other.port).slice(0, portsMax);
}

/** The lowest pid that holds each socket, by the inode of the socket. */
function pidsBySocket(lines: string): Map<string, number> {
  const pids = new Map<string, number>();
  let pid = 0;
  for (const line of lines.split('\n')) {
    pid = Number(/^\/proc\/(\d+)\/fd:$/.exec(line)?.[1] ?? pid);
    const inode = / -> socket:\[(\d+)\]$/.exec(line)?.[1];
    if (inode !== undefined && pid < (pids.get(inode) ?? Infinity)) pids.set(inode, pid);
  }
  return pids;
}

/** The kernel prints each 32 bits as one number in the byte order of the processor, which is little-endian. */
function bytesOf(hex: string): number[] {
  return [...hex.matchAll(/.{8}/g)].flatMap(([word]) =>
    [...word.matchAll(/../g)].map(([byte]) => Number.parseInt(byte, 16)).reverse(),
  );
}

function ipv4Of(hex: string): string {
  return bytesOf(hex).join('.');
}

function ipv6Of(hex: string): string {
  const bytes = bytesOf(hex);
  const groups = Array.from({ length: 8 }, (_, at) =>
    ((bytes[2 * at] ?? 0) * 256 + (bytes[2 * at + 1] ?? 0)).toString(16),
  );
  // The URL parser writes an address in its short form.
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}
