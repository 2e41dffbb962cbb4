// What a box answers when an operation is not possible in its present state, and what its row says after a failure.
// Nothing here changes the box.
import type { BoxStats } from '../../shared/api.ts';
import { timestamp } from '../../shared/waiting/clock.ts';
import type { BoxChange } from '../../shared/contracts/writer.ts';
import type { BoxState } from '../../shared/lifecycle/box.ts';
import { BoxRunError, errorText } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import type { EngineStats } from '../workers/box-worker.ts';

/** The fields of the row of a box that ended with `error`. */
export function failure(error: BoxRunError): BoxChange {
  return { error_code: error.code, error_message: errorText(error), stopped_at: timestamp() };
}

/**
 * The fields of the row of a box that runs while the disk of the host is nearly full. The supervisor recognizes its own
 * warning by this exact text, also after an update. So the text must not change.
 */
export const diskIsFull = {
  error_code: 'RESOURCE_EXCEEDED',
  error_message: 'the disk of the host is nearly full: what the box writes fails with ENOSPC until room is made',
} as const;

/** @throws UNAVAILABLE, BOX_NOT_RUNNING */
export function assertReady(row: BoxRow): void {
  if (row.state === 'ready') return;
  if (row.state === 'recovering') {
    throw new BoxRunError('UNAVAILABLE', `box ${row.name ?? row.id} is being taken over by a new worker`);
  }
  throw notRunning(row);
}

/** Words for these two states. Their public status is no use: it is still the one before the stop or the removal. */
const ending: Readonly<Partial<Record<BoxState, string>>> = { stopping: 'being stopped', removing: 'being removed' };

export function notRunning(row: BoxRow): BoxRunError {
  return new BoxRunError('BOX_NOT_RUNNING', `box ${row.name ?? row.id} is ${ending[row.state] ?? row.status}`, {
    hint: row.status === 'creating' ? 'wait until it runs' : `boxrun start ${row.name ?? row.id}`,
  });
}

export function alreadyRunning(row: BoxRow): BoxRunError {
  return new BoxRunError('BOX_ALREADY_RUNNING', `box ${row.name ?? row.id} is ${row.status}`);
}

/** The grace period of a stop, in milliseconds, when the client does not name one. */
export function stopGraceOf({ stop_grace_s: graceS }: BoxRow): number {
  return typeof graceS === 'number' ? Math.round(graceS * 1000) : limits.stopGraceMs;
}

export function statsOf({ memory_mb: memoryMb }: BoxRow, engine: EngineStats): BoxStats {
  return {
    at: timestamp(),
    cpu_seconds: engine.cpuSeconds,
    memory_bytes: engine.memoryBytes,
    memory_limit_bytes: memoryMb * 2 ** 20,
    disk_used_bytes: engine.diskUsedBytes,
    disk_size_bytes: engine.diskSizeBytes,
    processes: engine.processes,
    network_received_bytes: engine.networkReceivedBytes,
    network_sent_bytes: engine.networkSentBytes,
    ...(engine.agent === undefined ? {} : { agent: engine.agent }),
  };
}

/** A box in error can be stopped, too: the stop ends what may be left of its engine. */
export const stoppable: ReadonlySet<BoxState> = new Set<BoxState>(['ready', 'recovering', 'failed', 'stuck']);
export const startable: ReadonlySet<BoxState> = new Set<BoxState>(['stopped', 'failed', 'stuck']);
