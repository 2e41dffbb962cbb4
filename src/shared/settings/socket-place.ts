// Where the sockets of a state directory are. They move to a short directory when the kernel could not take their
// paths. Server and clients find the same place by the path of the state directory alone; the SDK for Node uses this
// file too.
import { join } from 'node:path';
import { limits } from '../limits.ts';

/** The longest socket in the run directory while it is being bound: a worker's, with the process that binds it. */
const longestSocket = '/workers/wrk_123456789012.stream.sock.1234567';
const socketName = 'boxrun.sock';

/** Where clients look for a server when nobody says otherwise. `stateDir` is absolute. */
export function defaultSocket(stateDir: string): string {
  const runDir = runDirectory(stateDir);
  return join(isInside(runDir, stateDir) ? stateDir : runDir, socketName);
}

/**
 * `run` in the state directory, or, where sockets would have too long a path there, one for this state directory alone
 * in /tmp.
 */
export function runDirectory(stateDir: string): string {
  const inside = join(stateDir, 'run');
  if (Buffer.byteLength(inside + longestSocket) <= limits.socketPathBytesMax) return inside;
  // Loaded where it is needed: it takes a tenth of the time of a short command.
  const { createHash } = process.getBuiltinModule('node:crypto');
  const name = createHash('sha256').update(stateDir).digest('hex').slice(0, 12);
  return join(shortDirectory(), name);
}

export function isInside(path: string, directory: string): boolean {
  return path.startsWith(`${directory}/`);
}

export function ownUid(): number {
  return process.getuid?.() ?? 0;
}

/** Not below TMPDIR: server and client must agree on it, and it must be short. */
function shortDirectory(): string {
  return `/tmp/boxrun-${ownUid()}`;
}
