// Limits, umask and oom_score_adj of a process in a box, as fields of an OCI configuration. The values are fixed,
// or given by the create. They are not those of the server, so nothing that the server was started with reaches a box.
// The runtime can only lower the limits that it inherits, so a
// worker first raises its own hard limits.
import { readFileSync } from 'node:fs';
import { runTool } from '../../../../shared/process/child-process.ts';
import { limits } from '../../../../shared/limits.ts';
import type { Ulimit } from '../../../../shared/api.ts';
import { ulimitsOf } from '../../../../shared/boxes/ulimits.ts';
import { findTool, toolEnvironment } from './tools.ts';

/** Stands for 2^64 - 1, which is no exact number in JavaScript. A text for a box never has a NUL character. */
const unlimitedMark = '\0unlimited';
const unlimitedText = String(2n ** 64n - 1n);

/** Names of the limits in /proc/self/limits. */
const lineOf: Readonly<Record<Ulimit['name'], string>> = {
  core: 'core file size',
  cpu: 'cpu time',
  data: 'data size',
  fsize: 'file size',
  locks: 'file locks',
  memlock: 'locked memory',
  msgqueue: 'msgqueue size',
  nice: 'nice priority',
  nofile: 'open files',
  nproc: 'processes',
  rss: 'resident set',
  rtprio: 'realtime priority',
  rttime: 'realtime timeout',
  sigpending: 'pending signals',
  stack: 'stack size',
};

/**
 * Returns all limits of a command: the fixed ones, and `asked` in place of fixed ones of the same name. If this process
 * may not raise its own limits (root of a container without SYS_RESOURCE), a fixed limit is lowered to what is allowed.
 * @param asked a soft or hard value of -1 means unlimited; units as in setrlimit(2)
 */
export async function limitsOfCommands(asked: readonly Ulimit[]): Promise<Ulimit[]> {
  const wanted = ulimitsOf(asked);
  let ceilings = ownHardLimits();
  const low = wanted.filter(({ name, hard }) => isAbove(hard, ceilings[name]));
  const prlimit = low.length === 0 ? null : await findTool('prlimit');
  if (prlimit !== null) {
    const args = low.map(({ name, hard }) => `--${name}=:${hard === -1 ? 'unlimited' : hard}`);
    await runTool(prlimit, ['--pid', String(process.pid), ...args], {
      timeoutMs: limits.killTimeoutMs,
      env: toolEnvironment(),
    });
    ceilings = ownHardLimits();
  }
  const clamp = (name: Ulimit['name'], value: number) => (isAbove(value, ceilings[name]) ? ceilings[name] : value);
  return wanted.map((limit) => {
    if (asked.includes(limit)) return limit;
    return { name: limit.name, soft: clamp(limit.name, limit.soft), hard: clamp(limit.name, limit.hard) };
  });
}

function isAbove(value: number, ceiling: number): boolean {
  return ceiling !== -1 && (value === -1 || value > ceiling);
}

function ownHardLimits(): Record<Ulimit['name'], number> {
  const text = readFileSync('/proc/self/limits', 'utf8');
  const hard = (name: string) => new RegExp(`^Max ${name} +\\S+ +(\\S+)`, 'm').exec(text)?.[1] ?? 'unlimited';
  const entries = Object.entries(lineOf).map(
    ([name, line]) => [name, hard(line) === 'unlimited' ? -1 : Number(hard(line))] as const,
  );
  return Object.fromEntries(entries) as Record<Ulimit['name'], number>;
}

/** Fields for the OCI `process`. */
export function processLimits(ulimits: readonly Ulimit[]) {
  const value = (limit: number) => (limit === -1 ? unlimitedMark : limit);
  return {
    rlimits: ulimits.map(({ name, soft, hard }) => ({
      type: `RLIMIT_${name.toUpperCase()}`,
      soft: value(soft),
      hard: value(hard),
    })),
    oomScoreAdj: 0,
  };
}

/** Field for the OCI `user`. */
export const boxUmask = 0o022;

/** Writes an OCI document as JSON, with the exact number for "unlimited". */
export function ociText(document: object): string {
  return JSON.stringify(document).replaceAll(JSON.stringify(unlimitedMark), unlimitedText);
}
