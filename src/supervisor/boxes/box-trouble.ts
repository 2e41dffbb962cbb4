// Finds out how a box differs from its row, by what is on the host and what its worker says. Only finds out: the box
// repairs itself. A box that is starting or stopping, or being created or removed, is never in trouble.
import type { BoxState } from '../../shared/lifecycle/box.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import type { BoxWorker } from '../workers/box-worker.ts';

/** What the supervisor sees of a box without asking its worker. */
export interface OutsideView {
  /** The host has more of the box than its home: processes, mounts, control groups or loop devices. */
  readonly isOnHost: boolean;
  /** The box is stopped or failed, but a row of a command says that the command runs. */
  readonly hasRunningRows: boolean;
}

export interface BoxTrouble {
  /** For the log. */
  readonly cause: string;
  /** What is wrong: the worker is missing, the engine is not as the row says, or commands run only in their rows. */
  readonly kind: 'worker' | 'engine' | 'commands';
  /** The state and the generation of the box when the trouble was found. If they differ later, the box has changed. */
  readonly state: BoxState;
  readonly generation: number;
}

export async function judgeBox(
  { state, generation }: Pick<BoxRow, 'state' | 'generation'>,
  worker: Pick<BoxWorker, 'present' | 'isRunning'>,
  { isOnHost, hasRunningRows }: OutsideView,
): Promise<BoxTrouble | null> {
  const trouble = (kind: BoxTrouble['kind'], cause: string): BoxTrouble => ({ kind, cause, state, generation });
  if (state === 'ready' || state === 'recovering') {
    if (worker.present === null) return trouble('worker', 'the box runs, but it has no worker');
    return state === 'ready' && (await worker.isRunning()) === false
      ? trouble('engine', 'the box should run, but its engine does not')
      : null;
  }
  if (state === 'stuck')
    return isOnHost ? null : trouble('engine', 'the box was stuck, but nothing of it runs any more');
  if (state !== 'stopped' && state !== 'failed') return null;
  if (isOnHost) return trouble('engine', `the box is ${state}, but something of it is on the host`);
  return hasRunningRows ? trouble('commands', `the box is ${state}, but its rows have running commands`) : null;
}
