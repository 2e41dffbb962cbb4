// The text for a command in whose box the kernel killed a process for lack of memory, with both engines. The count is
// that of the box: which command a killed process belonged to is not known.
import { constants } from 'node:os';
import type { ExecExit } from './driver-contract.ts';

/** Exit code after SIGKILL. A shell also ends with it when the kernel kills the child that it waits for. */
const killedCode = 128 + constants.signals.SIGKILL;

/**
 * The kernel counts its kills for the whole box. So if the command itself was not killed, the text can
 * only say what happened in the box while the command ran.
 */
export function withMemoryKills(exit: ExecExit, kills: number, memoryMb: number): ExecExit {
  if (kills === 0 || 'lost' in exit) return exit;
  const what =
    exit.exitCode === killedCode
      ? 'the kernel killed it'
      : `while it ran, the kernel killed ${kills} of the processes of its box`;
  return { ...exit, outOfMemory: `out of memory: ${what}; the box has ${memoryMb} MiB` };
}
