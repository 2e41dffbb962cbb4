// Requests to systemd, through its own programs (systemctl, busctl, systemd-notify). Every request has a deadline. A
// question without an answer gives false or null; it is not an error.
import { existsSync } from 'node:fs';
import { runTool, type ToolResult } from '../process/child-process.ts';
import { BoxRunError } from '../errors.ts';
import { limits } from '../limits.ts';

/** The systemd of the host (system), or the systemd of a user. */
export type SystemdOwner = 'system' | 'user';

/** True if systemd started this host (sd_booted(3)). */
export function hasSystemd(): boolean {
  return existsSync('/run/systemd/system');
}

/**
 * Runs `systemctl` to its end.
 * @throws RUNTIME_ERROR if it cannot be started, TIMEOUT after `timeoutMs` milliseconds
 */
export function systemctl(
  owner: SystemdOwner,
  args: readonly string[],
  timeoutMs: number = limits.systemdAnswerMs,
): Promise<ToolResult> {
  return runTool('systemctl', [...(owner === 'user' ? ['--user'] : []), ...args], { timeoutMs });
}

/** True while this systemd ends all units: the host shuts down, or the user has logged out. */
export async function isGoingDown(owner: SystemdOwner): Promise<boolean> {
  if (!hasSystemd()) return false;
  const answer = await systemctl(owner, ['is-system-running']).catch(() => null);
  return answer?.stdout.trim() === 'stopping';
}

/** The KillMode of the unit (systemd.kill(5)), or null if systemd does not say. */
export async function killModeOf(owner: SystemdOwner, unit: string): Promise<string | null> {
  if (!hasSystemd()) return null;
  const answer = await systemctl(owner, ['show', '--value', '--property=KillMode', unit]).catch(() => null);
  return answer?.stdout.trim() || null;
}

/**
 * Tells systemd that the server accepts requests.
 * @param socket the NOTIFY_SOCKET that systemd gave the server
 * @throws RUNTIME_ERROR, TIMEOUT
 */
export async function tellReady(socket: string): Promise<void> {
  const { exitCode, stderr } = await runTool('env', [`NOTIFY_SOCKET=${socket}`, 'systemd-notify', '--ready'], {
    timeoutMs: limits.systemdAnswerMs,
  });
  if (exitCode !== 0) throw new BoxRunError('RUNTIME_ERROR', `systemd-notify failed: ${stderr.trim()}`);
}

export interface Scope {
  readonly owner: SystemdOwner;
  /** The name of the scope, which ends with `.scope`. */
  readonly unit: string;
  readonly description: string;
  /** The slice for the scope. Null: systemd chooses one. */
  readonly slice: string | null;
  /** A unit. At a shutdown, systemd ends the scope only after this unit has ended. Null: at any time. */
  readonly endsAfter: string | null;
}

/** Seconds between TERM and KILL for the processes in a scope when the host shuts down. */
const scopeStopSeconds = 10;

/**
 * Asks systemd to make a scope that contains the process `pid`. systemd moves the process a little later.
 * @throws RUNTIME_ERROR if systemd refuses or cannot be reached, TIMEOUT
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
