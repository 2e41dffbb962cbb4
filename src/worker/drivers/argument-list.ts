// The kernel's bounds on the arguments and variables of a new program (execve(2)). They are checked before anything is
// started, so every way to start a command gives the same error. All sizes are in bytes, with the NUL byte at the end
// of each text.
import type { Ulimit } from '../../shared/api.ts';

const kib = 1024;
/** The bound on one argument or variable: MAX_ARG_STRLEN, with pages of 4 KiB. */
export const wordBytesMax = 128 * kib;
/**
 * The bound on all arguments and variables together is a quarter of the stack's limit, but at least `listBytesLeast`
 * and at most `listBytesMost`. The limit of the stack is `usualStackBytes` if the box has no other.
 */
const listBytesLeast = 128 * kib;
const listBytesMost = 6 * 1024 * kib;
const usualStackBytes = 8 * 1024 * kib;
/** The kernel also counts a pointer for each text. */
const pointerBytes = 8;
/** Room for the driver's own arguments before a command, and for the variables that the wrapper's shell adds. */
const ownBytes = 8 * kib;
/** No file can have a longer path (PATH_MAX). */
const pathCharactersMax = 4096;

interface Command {
  readonly cmd: readonly string[];
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
}

/**
 * Returns the command itself if the kernel can start it. Otherwise returns a command that prints "Argument list too
 * long" and exits with 126, as a shell does.
 * @param ulimits the limits of the box; the one of the stack decides the bound
 * @param busybox the path of busybox in the box
 * @param speaker the program name before the error message
 */
export function commandOrRefusal<C extends Command>(
  command: C,
  ulimits: readonly Ulimit[],
  busybox: string,
  speaker: string,
): C {
  const workdir = command.workdir.slice(0, pathCharactersMax);
  const words = [...command.cmd, ...Object.entries(command.env).map(([name, value]) => `${name}=${value}`)];
  if (fits(words, listBytesFor(ulimits))) return { ...command, workdir };
  const name = (command.cmd[0] ?? '').slice(0, pathCharactersMax);
  return {
    ...command,
    workdir,
    env: {},
    cmd: [busybox, 'sh', '-c', `echo "${speaker}: $0: Argument list too long" >&2; exit 126`, name],
  };
}

function fits(words: readonly string[], listBytes: number): boolean {
  let total = ownBytes;
  for (const word of words) {
    const bytes = Buffer.byteLength(word) + 1;
    if (bytes > wordBytesMax) return false;
    total += bytes + pointerBytes;
  }
  return total <= listBytes;
}

function listBytesFor(ulimits: readonly Ulimit[]): number {
  const stack = ulimits.find(({ name }) => name === 'stack')?.soft ?? usualStackBytes;
  return stack === -1 ? listBytesMost : Math.min(Math.max(Math.floor(stack / 4), listBytesLeast), listBytesMost);
}
