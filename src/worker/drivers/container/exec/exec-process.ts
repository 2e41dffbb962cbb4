// What runtime-exec.ts and runtime-terminal.ts share: the process file for the runtime, and the report by which the
// wrapper says that the command begins. The types and the cleaning up are for commands of the agent, too. The control
// group of a command is removed only when it is empty.
import type { ChildProcess } from 'node:child_process';
import { unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { Ulimit } from '../../../../shared/api.ts';
import type { ProcessIdentity } from '../../../../shared/process/child-process.ts';
import type { Logger } from '../../../../shared/observe/log.ts';
import type { ExecExit, ExecRequest } from '../../driver-contract.ts';
import { boxCapabilities } from '../box/bundle.ts';
import type { BoxCgroups } from '../host/cgroups.ts';
import type { BoxPaths } from '../paths.ts';
import type { PipePool } from './pipes.ts';
import { boxUmask, ociText, processLimits } from '../host/process-limits.ts';
import type { BoxAgent } from '../agent/box-agent.ts';
import type { OciRuntime } from '../host/runtime.ts';
import type { UserIds } from '../../users.ts';
import { wrapCommand } from './wrapper.ts';

export interface ExecContext {
  readonly boxId: string;
  /** The host's id of the box's root. */
  readonly rootId: number;
  /** All limits of a command. */
  readonly limits: readonly Ulimit[];
  readonly paths: BoxPaths;
  readonly runtime: OciRuntime;
  readonly cgroups: BoxCgroups;
  readonly pipes: PipePool;
  readonly agent: BoxAgent;
  /** The box's first process. */
  readonly init: ProcessIdentity;
  readonly log: Logger;
  /** Commands that have ended, but whose background children may be alive. */
  readonly lingering: Set<string>;
}

export interface PreparedCommand {
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly user: UserIds;
}

export interface StartedProcess {
  /**
   * Resolves when the wrapper reports from inside the command's control group. Rejects when the runtime ends before
   * that.
   */
  readonly begun: Promise<string>;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly stdin: Writable | null;
  readonly exit: Promise<ExecExit>;
  /** Pid of the process on the host that is the parent of the command. */
  readonly clientPid: number;
  /** Only commands with a terminal have this. */
  readonly resize?: (size: { readonly cols: number; readonly rows: number }) => void;
}

/** Path of the file in which the runtime reads what to start. */
export function processFileOf(paths: BoxPaths, execId: string): string {
  return join(paths.execs, `${execId}.json`);
}

/** Content of the process file. */
export function processText(limits: readonly Ulimit[], request: ExecRequest, command: PreparedCommand): string {
  const { args, env } = wrapCommand({
    cmd: request.cmd,
    workdir: command.workdir,
    isOwnDirectory: request.workdir === null,
    env: command.env,
    isTerminal: request.tty !== null,
  });
  const { uid, gid, groups } = command.user;
  // Only root has capabilities, as in any container.
  const held = uid === 0 ? boxCapabilities : [];
  return ociText({
    terminal: request.tty !== null,
    ...(request.tty === null ? {} : { consoleSize: { height: request.tty.rows, width: request.tty.cols } }),
    user: { uid, gid, additionalGids: groups, umask: boxUmask },
    args,
    env,
    cwd: '/',
    capabilities: { bounding: boxCapabilities, effective: held, permitted: held, inheritable: [], ambient: [] },
    noNewPrivileges: true,
    ...processLimits(limits),
  });
}

/**
 * Waits for the wrapper's report that the command begins. Resolves with the first bytes on `report`. Rejects if it ends
 * before, or if `child` could not be started.
 */
export async function firstReport(report: Readable, child: Pick<ChildProcess, 'once'> | null): Promise<string> {
  return new Promise<string>((resolve, reject) => {
    report.once('data', (piece: Buffer) => {
      resolve(piece.toString());
    });
    report.once('end', () => {
      reject(new Error('the runtime ended before the command began'));
    });
    report.once('error', reject);
    child?.once('error', reject);
  }).finally(() => {
    report.destroy();
  });
}

/** Removes the process file of an ended command, and its control group as soon as no child is left in it. */
export function removeEndedExec(context: ExecContext, execId: string, processFile: string | null): void {
  if (processFile !== null) removeQuietly(processFile);
  context.lingering.add(execId);
  removeLingeringGroups(context);
}

/** Removes the control groups of ended commands in which no process is left. */
export function removeLingeringGroups({ cgroups, lingering }: ExecContext): void {
  for (const execId of lingering) if (cgroups.tryRemoveExec(execId)) lingering.delete(execId);
}

export function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It does not exist.
  }
}
