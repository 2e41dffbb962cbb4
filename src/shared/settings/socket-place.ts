// The places of the sockets of a state directory. If their paths would be too long for the kernel, they are in a short
// directory in /tmp instead. A place depends only on the path of the state directory and on the user, so the server
// and the clients of one user agree.
import { join } from 'node:path';
import { limits } from '../limits.ts';

/** The longest socket path below the run directory: a worker's. A server binds PATH.PID and then renames it to PATH. */
const longestSocket = '/workers/wrk_123456789012.stream.sock.1234567';
const socketName = 'boxrun.sock';

/** The socket for clients if no setting names another one. `stateDir` must be absolute. */
export function defaultSocket(stateDir: string): string {
  const runDir = runDirectory(stateDir);
  return join(isInside(runDir, stateDir) ? stateDir : runDir, socketName);
}

/** The directory `run` in the state directory, or a directory in /tmp if the socket paths would be too long there. */
export function runDirectory(stateDir: string): string {
  const inside = join(stateDir, 'run');
  if (Buffer.byteLength(inside + longestSocket) <= limits.socketPathBytesMax) return inside;
  // Loaded only here, because loading it takes a tenth of the time of a short command of the command line.
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

/** Not below TMPDIR: a client may have another TMPDIR than the server, and TMPDIR may be long. */
function shortDirectory(): string {
  return `/tmp/boxrun-${ownUid()}`;
}
