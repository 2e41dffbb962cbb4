// What can be wrong with a box beside its row, by what is seen of it on the host and what its worker says. Judged here,
// only; box.ts, the owner, sets it right. A box that is changing is never in trouble.
import type { BoxState } from '../../shared/lifecycle/box.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import type { BoxWorker } from '../workers/box-worker.ts';

/** What is seen of a box without asking it. */
export interface OutsideView {
  /** There is more of it on the host than its home. */
  readonly isOnHost: boolean;
  /** Rows of its commands say that they run. */
  readonly hasRunningRows: boolean;
}

export interface BoxTrouble {
  readonly cause: string;
  readonly kind: 'worker' | 'engine' | 'commands';
  /** When it was found. */
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
    if (worker.present === null) return trouble('worker', 'it runs, and has no worker');
    return state === 'ready' && (await worker.isRunning()) === false
      ? trouble('engine', 'it runs, and its engine does not')
      : null;
  }
  if (state === 'stuck') return isOnHost ? null : trouble('engine', 'it was thought to run, and nothing of it does');
  if (state !== 'stopped' && state !== 'failed') return null;
  if (isOnHost) return trouble('engine', `it is ${state}, and something of it is there`);
  return hasRunningRows ? trouble('commands', `it is ${state}, and commands of it are running`) : null;
}
