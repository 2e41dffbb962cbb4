// What BoxRun asks of systemd, through the programs of its own package: is it there, put a process into a scope, say
// that the server is ready, is the host going down. Every question has a deadline, and no answer is an answer too.
import { existsSync } from 'node:fs';
import { runTool, type ToolResult } from '../process/child-process.ts';
import { BoxRunError } from '../errors.ts';
import { limits } from '../limits.ts';

/** Which systemd: that of the host, or the one of a user. */
export type SystemdOwner = 'system' | 'user';

/** True where systemd started this host (sd_booted(3)). */
export function hasSystemd(): boolean {
  return existsSync('/run/systemd/system');
}

/**
 * Runs `systemctl` of that systemd to its end.
 * @throws RUNTIME_ERROR when it cannot be started, TIMEOUT
 */
export function systemctl(
  owner: SystemdOwner,
  args: readonly string[],
  timeoutMs: number = limits.systemdAnswerMs,
): Promise<ToolResult> {
  return runTool('systemctl', [...(owner === 'user' ? ['--user'] : []), ...args], { timeoutMs });
}

/** True while that systemd ends everything: the host shuts down, or the user's last login is over. */
export async function isGoingDown(owner: SystemdOwner): Promise<boolean> {
  if (!hasSystemd()) return false;
  const answer = await systemctl(owner, ['is-system-running']).catch(() => null);
  return answer?.stdout.trim() === 'stopping';
}

/** How that systemd ends the unit (systemd.kill(5)); null when it does not say. */
export async function killModeOf(owner: SystemdOwner, unit: string): Promise<string | null> {
  if (!hasSystemd()) return null;
  const answer = await systemctl(owner, ['show', '--value', '--property=KillMode', unit]).catch(() => null);
  return answer?.stdout.trim() || null;
}

/** Tells systemd that the server takes requests; `socket` is what it gave the server as NOTIFY_SOCKET. */
export async function tellReady(socket: string): Promise<void> {
  const { exitCode, stderr } = await runTool('env', [`NOTIFY_SOCKET=${socket}`, 'systemd-notify', '--ready'], {
    timeoutMs: limits.systemdAnswerMs,
  });
  if (exitCode !== 0) throw new BoxRunError('RUNTIME_ERROR', `systemd-notify failed: ${stderr.trim()}`);
}

export interface Scope {
  readonly owner: SystemdOwner;
  /** With `.scope` at its end. */
  readonly unit: string;
  readonly description: string;
  /** The slice that it belongs to; null: the one that systemd chooses. */
  readonly slice: string | null;
  /** At a shutdown the scope ends after this unit has; null: at any moment. */
  readonly endsAfter: string | null;
}

/** Where the server is not told otherwise, what is in a scope at a shutdown gets this long between TERM and KILL. */
const scopeStopSeconds = 10;

/**
 * Asks systemd for a scope with that process in it. The process is moved a little later.
 * @throws RUNTIME_ERROR when systemd refuses, or cannot be reached; TIMEOUT
 */
export async function startScope({ owner, unit, description, slice, endsAfter }: Scope, pid: number): Promise<void> {
  const properties = [
    ['Description', 's', description],
    ['PIDs', 'au', '1', String(pid)],
    ['Delegate', 'b', 'true'],
    ['CollectMode', 's', 'inactive-or-failed'],
    ['TasksMax', 't', String(2n ** 64n - 1n)],
    ['TimeoutStopUSec', 't', String(scopeStopSeconds * 1_000_000)],
    ...(slice === null ? [] : [['Slice', 's', slice]]),
    ...(endsAfter === null ? [] : [['Before', 'as', '1', endsAfter]]),
  ];
  const object = ['org.freedesktop.systemd1', '/org/freedesktop/systemd1', 'org.freedesktop.systemd1.Manager'];
  const args = [unit, 'fail', String(properties.length), ...properties.flat(), '0'];
  const { exitCode, stderr } = await runTool(
    'busctl',
    [`--${owner}`, 'call', ...object, 'StartTransientUnit', 'ssa(sv)a(sa(sv))', ...args],
    { timeoutMs: limits.systemdAnswerMs },
  );
  if (exitCode !== 0) throw new BoxRunError('RUNTIME_ERROR', `systemd makes no scope: ${stderr.trim()}`);
}
