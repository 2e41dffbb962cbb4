// The life of a box. Owner: the supervisor's box.ts. Public statuses are a projection of these states.
// Every cause that is not listed for a state is a bug of the owner, not a condition to tolerate.
import type { BoxStatus } from '../api.ts';
import type { Table } from './machine.ts';

export const boxStates = [
  'creating',
  'starting',
  'ready',
  'recovering',
  'stopping',
  'stopped',
  /** In error, and certainly nothing of it runs. */
  'failed',
  /** In error, and its engine may live: it could not be ended, or nobody could find out. */
  'stuck',
  'removing',
  'removed',
] as const;
export type BoxState = (typeof boxStates)[number];

export const boxCauses = [
  /** The engine runs and takes commands. */
  'brought-up',
  'start-asked',
  'start-failed',
  'stop-asked',
  'stop-done',
  /** A command could not be killed; the engine was ended for it. */
  'kill-failed',
  /** What is left of the engine could not be ended for certain. */
  'end-failed',
  /** Nothing of a box that was stuck runs any more. */
  'found-ended',
  /** The engine ended by itself; the disk is there. */
  'engine-died',
  /** The worker is gone; the engine may still run. */
  'worker-died',
  'recovery-failed',
  'remove-asked',
  'remove-failed',
  'remove-done',
] as const;
export type BoxCause = (typeof boxCauses)[number];

export const boxTable: Table<BoxState, BoxCause> = {
  // A create that fails is rolled back by removing the box.
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

const projection: Readonly<Record<BoxState, BoxStatus>> = {
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

/** The status that clients see. */
export function publicStatus(state: BoxState): BoxStatus {
  return projection[state];
}

/** States in which the box's CPUs and memory count against the quota. */
export function holdsQuota(state: BoxState): boolean {
  return state !== 'stopped' && state !== 'failed' && state !== 'removed';
}
