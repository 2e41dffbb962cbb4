// The limits of each process in a container box (setrlimit(2)). Every command gets all of them: fixed values, except
// where the create request of the box gave others. They do not depend on the limits of the server. But a worker that
// may not raise its own limits lowers the fixed values to what it may set (process-limits.ts). It never lowers a
// requested value. In a micro-VM BoxRun sets none of them.
import type { Ulimit } from '../api.ts';
import { BoxRunError } from '../errors.ts';

const unlimited = -1;
/** The kernel's default for fs.nr_open, the highest possible number of open files. */
const nofileMax = 1_048_576;
const mib = 2 ** 20;

/**
 * The same values as in a Docker container whose daemon runs under systemd, but without core files, because the host
 * decides where those are written.
 */
const defaults: readonly Ulimit[] = [
  { name: 'core', soft: 0, hard: 0 },
  { name: 'cpu', soft: unlimited, hard: unlimited },
  { name: 'data', soft: unlimited, hard: unlimited },
  { name: 'fsize', soft: unlimited, hard: unlimited },
  { name: 'locks', soft: unlimited, hard: unlimited },
  { name: 'memlock', soft: 8 * mib, hard: 8 * mib },
  { name: 'msgqueue', soft: 819_200, hard: 819_200 },
  { name: 'nice', soft: 0, hard: 0 },
  { name: 'nofile', soft: 1_024, hard: 524_288 },
  { name: 'nproc', soft: unlimited, hard: unlimited },
  { name: 'rss', soft: unlimited, hard: unlimited },
  { name: 'rtprio', soft: 0, hard: 0 },
  { name: 'rttime', soft: unlimited, hard: unlimited },
  { name: 'sigpending', soft: 32_768, hard: 32_768 },
  { name: 'stack', soft: 8 * mib, hard: unlimited },
];

/** All limits of a command: the requested ones, and the fixed values for the others. */
export function ulimitsOf(asked: readonly Ulimit[]): Ulimit[] {
  return defaults.map((fixed) => asked.find(({ name }) => name === fixed.name) ?? fixed);
}

/** @throws VALIDATION_ERROR if limits contradict each other, or if the driver cannot set them */
export function checkUlimits(asked: readonly Ulimit[], driver: 'boxlite' | 'container'): void {
  if (asked.length === 0) return;
  if (driver === 'boxlite') {
    throw invalid(
      'ulimits cannot be set in the micro-VMs of the boxlite driver',
      'omit them, or call `ulimit` in the command',
    );
  }
  for (const [index, { name, soft, hard }] of asked.entries()) {
    if (asked.findIndex((other) => other.name === name) < index)
      throw invalid(`the limit '${name}' is given twice`, 'give it once');
    if (hard !== unlimited && (soft === unlimited || soft > hard)) {
      throw invalid(`the soft limit of '${name}' is above the hard one`, 'lower the soft limit, or raise the hard one');
    }
    if (name === 'nofile' && (hard === unlimited || hard > nofileMax)) {
      throw invalid(`the limit 'nofile' ends at ${nofileMax}`, 'the kernel gives a process no more descriptors');
    }
  }
}

function invalid(message: string, hint: string): BoxRunError {
  return new BoxRunError('VALIDATION_ERROR', message, { hint });
}
