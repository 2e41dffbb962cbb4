// Whether the kernel can start a command with these arguments and variables (execve(2)), told before anything is
// started, so that every path to a command gives the same answer. All sizes are of bytes, with the one at the end of
// each text.
import type { Ulimit } from '../../shared/api.ts';

const kib = 1024;
/** MAX_ARG_STRLEN, with pages of 4 KiB. */
export const wordBytesMax = 128 * kib;
/**
 * Of all together: a quarter of the stack (8 MiB where nobody says another), but at least the first and at most the
 * second.
 */
const listBytesLeast = 128 * kib;
const listBytesMost = 6 * 1024 * kib;
const usualStackBytes = 8 * 1024 * kib;
/** The kernel counts a pointer for each text as well. */
const pointerBytes = 8;
/** What a driver puts before a command, and the shell that becomes the command adds to its variables. */
const ownBytes = 8 * kib;
/** A path that is longer names nothing (PATH_MAX). */
const pathCharactersMax = 4096;

interface Command {
  readonly cmd: readonly string[];
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
}

/**
 * `command`, or where it is too long for the kernel, one that says so and ends with 126, as a shell does.
 * @param busybox its path in the box
 * @param speaker as which the driver's own words come
 */
export function startable<C extends Command>(
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
