// What a started command is made of, with a terminal or without: its record for the runtime, its first words, its
// files, and what is forgotten when it has ended. Used by exec.ts and terminal.ts.
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
import type { BoxPaths } from '../box/paths.ts';
import type { PipePool } from './pipes.ts';
import { boxUmask, ociText, processLimits } from './process-limits.ts';
import type { Runner } from '../runner/runner.ts';
import type { OciRuntime } from '../host/runtime.ts';
import type { UserIds } from './users.ts';
import { wrapCommand } from './wrapper.ts';

export interface ExecContext {
  readonly boxId: string;
  /** The host's id of the box's root. */
  readonly rootId: number;
  /** All of a command. */
  readonly limits: readonly Ulimit[];
  readonly paths: BoxPaths;
  readonly runtime: OciRuntime;
  readonly cgroups: BoxCgroups;
  readonly pipes: PipePool;
  readonly runner: Runner;
  /** The box's first process. */
  readonly init: ProcessIdentity;
  readonly log: Logger;
  /** Commands that have ended and whose background children have not. */
  readonly lingering: Set<string>;
}

export interface PreparedCommand {
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly user: UserIds;
}

export interface StartedProcess {
  /**
   * Resolves when the wrapper reports, from inside the command's control group; rejects when the runtime ended without
   * that.
   */
  readonly begun: Promise<string>;
  readonly stdout: Readable;
  readonly stderr: Readable;
  readonly stdin: Writable | null;
  readonly exit: Promise<ExecExit>;
  /** The process on the host that is the parent of the command. */
  readonly clientPid: number;
  /** Of a command with a terminal. */
  readonly resize?: (size: { readonly cols: number; readonly rows: number }) => void;
}

/** Where the runtime reads what to start. */
export function processFileOf(paths: BoxPaths, execId: string): string {
  return join(paths.execs, `${execId}.json`);
}

/** What to start, for that file. */
export function processText(limits: readonly Ulimit[], request: ExecRequest, command: PreparedCommand): string {
  const { args, env } = wrapCommand({
    cmd: request.cmd,
    workdir: command.workdir,
    isOwnDirectory: request.workdir === null,
    env: command.env,
    isTerminal: request.tty !== null,
  });
  const { uid, gid, groups } = command.user;
  // Only root starts with capabilities, as in any container.
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

/** What comes first on `report`. */
export async function firstWords(report: Readable, child: Pick<ChildProcess, 'once'> | null): Promise<string> {
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

/** A command has ended; its children may live on. */
export function forgetExec(context: ExecContext, execId: string, processFile: string | null): void {
  if (processFile !== null) removeQuietly(processFile);
  context.lingering.add(execId);
  sweepLingering(context);
}

/** Removes the groups of commands that have ended with all their children. */
export function sweepLingering({ cgroups, lingering }: ExecContext): void {
  for (const execId of lingering) if (cgroups.tryRemoveExec(execId)) lingering.delete(execId);
}

export function removeQuietly(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Not there: nothing to remove.
  }
}
