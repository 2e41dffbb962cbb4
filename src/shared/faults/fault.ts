// Points at which tests hold a process still, to kill it or another one at exactly that moment. Off unless the
// environment names a directory: then `faultPoint` is an empty function. What each point means is said in
// fault-points.ts.
import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import type { FaultPoint } from './fault-points.ts';
import { limits } from '../limits.ts';

/**
 * In the directory a test makes `POINT.armed`; the first process that comes by turns it into `POINT.reached.PID`, and
 * does nothing at all until there is `POINT.go`, or limits.faultHoldMs are over.
 */
export function createFaultPoint(directory: string | undefined): (point: FaultPoint) => void {
  if (directory === undefined || directory === '') return () => undefined;
  return (point) => {
    try {
      renameSync(join(directory, `${point}.armed`), join(directory, `${point}.reached.${process.pid}`));
    } catch {
      return; // Not armed, or somebody else was first.
    }
    const still = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    const deadline = Date.now() + limits.faultHoldMs;
    while (!existsSync(join(directory, `${point}.go`)) && Date.now() < deadline) Atomics.wait(still, 0, 0, 1);
  };
}

export const faultPoint = createFaultPoint(process.env['BOXRUN_FAULT_DIR']);
