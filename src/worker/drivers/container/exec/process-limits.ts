// Limits, umask and the kernel's choice of victims for a process of a box, in the words of an OCI configuration. Fixed
// values, so that nothing of what the server was started with reaches a box. The runtime can only lower what it is
// started with, so a worker raises its own hard limits first.
import { readFileSync } from 'node:fs';
import { runTool } from '../../../../shared/process/child-process.ts';
import { limits } from '../../../../shared/limits.ts';
import type { Ulimit } from '../../../../shared/api.ts';
import { ulimitsOf } from '../../../../shared/boxes/ulimits.ts';
import { findTool, toolEnvironment } from '../host/tools.ts';

/** Stands for the number, which JavaScript cannot write: no text that reaches a box has a NUL character. */
const unlimitedMark = '\0unlimited';
const unlimitedText = String(2n ** 64n - 1n);

/** As the kernel says them in /proc/self/limits. */
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
 * All limits of a command of a box: those asked for, over the fixed ones. Where this process may not raise its own (as
 * root of a container without SYS_RESOURCE), a fixed one is as high as it can be.
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

/** Fields of an OCI `process`. */
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

/** Field of an OCI `user`. */
export const boxUmask = 0o022;

/** An OCI document with such fields as text. */
export function ociText(document: object): string {
  return JSON.stringify(document).replaceAll(JSON.stringify(unlimitedMark), unlimitedText);
}
