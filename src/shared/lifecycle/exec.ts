// The life of an exec. Owner: the worker's exec.ts.
// A state that has no way out is final: the exit event is then the last one of the exec.
import type { ExecStatus } from '../api.ts';
import type { Table } from './machine.ts';

export const execStates = ['starting', 'running', 'killing', 'exited', 'failed', 'lost'] as const;
export type ExecState = (typeof execStates)[number];

export const execCauses = [
  'started',
  /** The engine could not start it. */
  'start-failed',
  /** Cancel, timeout or the box's stop. */
  'kill-asked',
  /** The leader has exited, its output is drained, and after a kill no process of it is left. */
  'exited',
  /** The engine cannot say what became of it. */
  'engine-lost',
] as const;
export type ExecCause = (typeof execCauses)[number];

export const execTable: Table<ExecState, ExecCause> = {
  starting: { started: 'running', 'start-failed': 'failed', 'kill-asked': 'killing', 'engine-lost': 'lost' },
  running: { 'kill-asked': 'killing', exited: 'exited', 'engine-lost': 'lost' },
  killing: { 'start-failed': 'failed', exited: 'exited', 'engine-lost': 'lost' },
  exited: {},
  failed: {},
  lost: {},
};

export function isFinished(state: ExecState): boolean {
  return state === 'exited' || state === 'failed' || state === 'lost';
}

/** How an exec ended, from which its public status follows. */
export interface ExecOutcome {
  readonly exitCode: number | null;
  readonly errorMessage: string | null;
  readonly canceled: boolean;
  /** Of one that has succeeded, what the user should know. */
  readonly warning?: string;
}

export function finishedStatus(outcome: ExecOutcome): Exclude<ExecStatus, 'running'> {
  if (outcome.canceled) return 'canceled';
  return outcome.exitCode === 0 && outcome.errorMessage === null ? 'succeeded' : 'failed';
}

/**
 * Text of the last event of an exec: `{"exit_code":0}`, with `error` or `warning` where there is one, and how much
 * output was not kept, if any.
 */
export function exitEventData(outcome: ExecOutcome, droppedBytes = 0): string {
  return JSON.stringify({
    exit_code: outcome.exitCode,
    ...(outcome.errorMessage === null ? {} : { error: outcome.errorMessage }),
    ...(outcome.warning === undefined ? {} : { warning: outcome.warning }),
    ...(droppedBytes === 0 ? {} : { dropped_bytes: droppedBytes }),
  });
}
