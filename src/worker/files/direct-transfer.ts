// Transfers whose bytes do not pass through this worker: the gateway opens a second connection, and the program in the
// box gets it as its input or its output. So a large file costs no work here. The stream of the operation carries only
// reports. If the client leaves, the gateway closes both connections, and the program ends.
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { limits } from '../../shared/limits.ts';
import { withDeadline } from '../../shared/waiting/clock.ts';
import type { HandOver } from '../streams.ts';
import { closeWhenClientLeaves } from './transfer.ts';
import { startFileProgram, type FileDriver, type FileProgram, type FileWarnings } from './file-program.ts';

export interface DirectPlace {
  readonly driver: FileDriver;
  /** As in a command; null for root. */
  readonly user: string | null;
  /** Lets the gateway open a second connection. */
  readonly handOver: () => HandOver;
}

/** Smaller files are quicker over the agent of the box, because a command with a socket is a start by the engine. */
export const directBytesMin = 4 * 1024 * 1024;

/**
 * Runs an operation that writes, with the bytes of the client as its input.
 * @throws as FileProgram.end
 */
export async function receiveDirect(place: DirectPlace, args: readonly string[], stream: ByteStream) {
  return runDirect(place, args, 'stdin', stream, async (program) => {
    const { done } = await withDeadline(program.answer.next(), limits.fileAnswerMs, 'an answer of the box');
    if (done !== true) await stream.control({ type: 'go' });
  });
}

/** Runs an operation whose output the client gets as it is. @throws as FileProgram.end */
export async function sendDirect(place: DirectPlace, args: readonly string[], stream: ByteStream) {
  return runDirect(place, args, 'stdout', stream, () => Promise.resolve());
}

async function runDirect(
  { driver, user, handOver }: DirectPlace,
  args: readonly string[],
  is: 'stdin' | 'stdout',
  stream: ByteStream,
  begin: (program: FileProgram) => Promise<void>,
): Promise<FileWarnings> {
  const { grant, socket } = handOver();
  await stream.control({ type: 'direct', ...grant });
  const direct = { is, socket: await socket };
  const program = await startFileProgram(driver, args, { user, hasInput: false, direct });
  const watching = closeWhenClientLeaves(stream, program);
  try {
    await begin(program);
    return await program.end('whenever');
  } finally {
    watching.abort();
    await program.close();
  }
}
