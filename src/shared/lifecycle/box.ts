// The states of a box, and the causes that lead from one to the next. Each state has a public status for clients. If a
// cause arrives that the table does not list for the present state, the supervisor has a bug, and box-state.ts throws.
// Only its `recordFailure` skips such a cause.
import type { BoxStatus } from '../api.ts';
import type { Table } from './machine.ts';

export const boxStates = [
  'creating',
  'starting',
  'ready',
  'recovering',
  'stopping',
  'stopped',
  /** The box is in error, and nothing of it runs. */
  'failed',
  /** The box is in error, and its engine may still run: it could not be ended, or its state is unknown. */
  'stuck',
  'removing',
  'removed',
] as const;
export type BoxState = (typeof boxStates)[number];

export const boxCauses = [
  /** The engine runs and accepts commands. */
  'brought-up',
  'start-asked',
  'start-failed',
  'stop-asked',
  'stop-done',
  /** A command could not be killed, so the supervisor ended the engine. */
  'kill-failed',
  /** The engine, or a part of it, may still run after an attempt to end it. */
  'end-failed',
  /** The box was stuck, and nothing of it runs any more. */
  'found-ended',
  /** The engine ended by itself. The disk still exists. */
  'engine-died',
  /** The worker has ended. The engine may still run. */
  'worker-died',
  'recovery-failed',
  'remove-asked',
  'remove-failed',
  'remove-done',
] as const;
export type BoxCause = (typeof boxCauses)[number];

export const boxTable: Table<BoxState, BoxCause> = {
  // The supervisor removes a box whose create fails, so there is no way from here to `failed`.
  creating: { 'brought-up': 'ready', 'remove-asked': 'removing' },
  starting: {
    'brought-up': 'ready',
    'start-failed': 'failed',
    'end-failed': 'stuck',
    'engine-died': 'stopped',
    'remove-asked': 'removing',
  },
  ready: {
    'stop-asked': 'stopping',
    'engine-died': 'stopped',
    'end-failed': 'stuck',
    'worker-died': 'recovering',
    'remove-asked': 'removing',
  },
  recovering: {
    'brought-up': 'ready',
    'engine-died': 'stopped',
    'recovery-failed': 'failed',
    'end-failed': 'stuck',
    'stop-asked': 'stopping',
    'remove-asked': 'removing',
  },
  stopping: {
    'stop-done': 'stopped',
    'kill-failed': 'failed',
    'end-failed': 'stuck',
    'engine-died': 'stopped',
    'remove-asked': 'removing',
  },
  stopped: { 'start-asked': 'starting', 'remove-asked': 'removing' },
  failed: { 'start-asked': 'starting', 'stop-asked': 'stopping', 'remove-asked': 'removing' },
  stuck: {
    'found-ended': 'failed',
    'start-asked': 'starting',
    'stop-asked': 'stopping',
    'remove-asked': 'removing',
  },
  removing: { 'remove-done': 'removed', 'remove-failed': 'failed', 'end-failed': 'stuck' },
  removed: {},
};

const publicStatuses: Readonly<Record<BoxState, BoxStatus>> = {
  creating: 'creating',
  starting: 'creating',
  ready: 'running',
  recovering: 'running',
  stopping: 'running',
  stopped: 'stopped',
  failed: 'error',
  stuck: 'error',
  removing: 'stopped',
  removed: 'stopped',
};

/** The status that clients see. Only a box that is being removed keeps the one from before (box-state.ts). */
export function publicStatus(state: BoxState): BoxStatus {
  return publicStatuses[state];
}

/** True if the CPUs and the memory of a box in this state count against the quota. */
export function holdsQuota(state: BoxState): boolean {
  return state !== 'stopped' && state !== 'failed' && state !== 'removed';
}
