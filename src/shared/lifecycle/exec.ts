// The states of a command, and the causes that lead from one to the next. In a state without a way out the command has
// ended, and its exit event is its last output event.
import type { ExecStatus } from '../api.ts';
import type { Table } from './machine.ts';

export const execStates = ['starting', 'running', 'killing', 'exited', 'failed', 'lost'] as const;
export type ExecState = (typeof execStates)[number];

export const execCauses = [
  'started',
  /** The engine could not start the command. */
  'start-failed',
  /** A cancel request, the command's timeout or a stop of the box. */
  'kill-asked',
  /**
   * The program has exited and its output is read to the end. After a kill that succeeded, none of its children is left
   * either; after one that failed, the supervisor ends the box.
   */
  'exited',
  /** The engine does not know how the command ended. */
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

/** How a command ended. Its public status follows from this. */
export interface ExecOutcome {
  readonly exitCode: number | null;
  readonly errorMessage: string | null;
  readonly canceled: boolean;
  /** What the user should know although the command has succeeded. */
  readonly warning?: string;
}

export function finishedStatus(outcome: ExecOutcome): Exclude<ExecStatus, 'running'> {
  if (outcome.canceled) return 'canceled';
  return outcome.exitCode === 0 && outcome.errorMessage === null ? 'succeeded' : 'failed';
}

/**
 * The JSON text of the exit event: `{"exit_code":0}`, with `error` and `warning` if there are any.
 * @param droppedBytes bytes of output that were not kept; the text says so if there are any
 */
export function exitEventData(outcome: ExecOutcome, droppedBytes = 0): string {
  return JSON.stringify({
    exit_code: outcome.exitCode,
    ...(outcome.errorMessage === null ? {} : { error: outcome.errorMessage }),
    ...(outcome.warning === undefined ? {} : { warning: outcome.warning }),
    ...(droppedBytes === 0 ? {} : { dropped_bytes: droppedBytes }),
  });
}
