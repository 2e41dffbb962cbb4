// The life of a box. Owner: the supervisor's box.ts. Public statuses are a projection of these states.
// Every cause that is not listed for a state is a bug of the owner, not a condition to tolerate.
import type { BoxStatus } from '../api.ts';
import type { Table } from './machine.ts';

export const boxStates = [
  'creating', 'starting', 'ready', 'recovering', 'stopping', 'stopped', 'failed', 'removing', 'removed',
] as const;
export type BoxState = (typeof boxStates)[number];

export const boxCauses = [
  /** The engine runs and takes commands. */
  'brought-up',
  'start-asked',
  'start-failed',
  'stop-asked',
  'stop-done',
  'stop-failed',
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
    'brought-up': 'ready', 'start-failed': 'failed', 'engine-died': 'stopped', 'remove-asked': 'removing',
  },
  ready: {
    'stop-asked': 'stopping', 'engine-died': 'stopped', 'worker-died': 'recovering', 'remove-asked': 'removing',
  },
  recovering: {
    'brought-up': 'ready', 'engine-died': 'stopped', 'recovery-failed': 'failed', 'stop-asked': 'stopping',
    'remove-asked': 'removing',
  },
  stopping: { 'stop-done': 'stopped', 'stop-failed': 'failed', 'engine-died': 'stopped', 'remove-asked': 'removing' },
  stopped: { 'start-asked': 'starting', 'remove-asked': 'removing' },
  failed: { 'start-asked': 'starting', 'stop-asked': 'stopping', 'remove-asked': 'removing' },
  removing: { 'remove-done': 'removed', 'remove-failed': 'failed' },
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
