// Fault points: a test can hold a process at one, to kill it or another process at exactly that moment. They work only
// if BOXRUN_FAULT_DIR names a directory; otherwise `faultPoint` is an empty function. fault-points.ts lists all points.
import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import type { FaultPoint } from './fault-points.ts';
import { limits } from '../limits.ts';

/**
 * A test creates `POINT.armed` in the directory. The first process that reaches the point renames it to
 * `POINT.reached.PID`. Then this process blocks until `POINT.go` exists, or for limits.faultHoldMs.
 */
export function createFaultPoint(directory: string | undefined): (point: FaultPoint) => void {
  if (directory === undefined || directory === '') return () => undefined;
  return (point) => {
    try {
      renameSync(join(directory, `${point}.armed`), join(directory, `${point}.reached.${process.pid}`));
    } catch {
      return; // The point is not armed, or another process was first.
    }
    const still = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    const deadline = Date.now() + limits.faultHoldMs;
    while (!existsSync(join(directory, `${point}.go`)) && Date.now() < deadline) Atomics.wait(still, 0, 0, 1);
  };
}

export const faultPoint = createFaultPoint(process.env['BOXRUN_FAULT_DIR']);
