// The rule for `cpu_limit`, the ceiling on the CPUs that a box uses. The supervisor checks it before anything of the
// box is made, so a driver that cannot enforce a limit never gets one.
import { BoxRunError } from '../errors.ts';

interface CpuRequest {
  readonly cpu: number;
  readonly cpu_limit?: number | null;
}

/** @throws VALIDATION_ERROR if the limit is above `cpu`, or if the driver cannot enforce it */
export function checkCpuLimit({ cpu, cpu_limit: limit = null }: CpuRequest, driver: 'boxlite' | 'container'): void {
  if (limit === null || limit === cpu) return;
  if (limit > cpu) {
    throw new BoxRunError('VALIDATION_ERROR', `'cpu_limit' is ${limit}, but 'cpu' is ${cpu}`, {
      hint: `lower 'cpu_limit' to at most ${cpu}, or raise 'cpu'`,
    });
  }
  if (driver === 'boxlite') {
    throw new BoxRunError('VALIDATION_ERROR', 'a micro-VM of the boxlite driver can use all of its CPUs', {
      hint: "omit 'cpu_limit' and lower 'cpu', or use the container driver",
    });
  }
}
