// The runner of one box: its start by a single exec of the OCI runtime, its end, and its restarts. While no runner is
// ready, commands take the ordinary path. Only in the mode `always` a command waits for the start of the runner.
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { Ulimit } from '../../../../shared/api.ts';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import type { RunnerMode } from '../../../../shared/settings/config.ts';
import { errorText } from '../../../../shared/errors.ts';
import { homeMark } from '../../../../shared/host/host-marks.ts';
import { limits } from '../../../../shared/limits.ts';
import type { Logger } from '../../../../shared/observe/log.ts';
import { createRestartWindow } from '../../../../shared/process/restart-window.ts';
import { boxCapabilities, defaultPath } from '../box/bundle.ts';
import { isUnified, type BoxCgroups } from '../host/cgroups.ts';
import { toolsInBox, type BoxPaths } from '../paths.ts';
import { boxUmask, ociText, processLimits } from '../host/process-limits.ts';
import type { OciRuntime } from '../host/runtime.ts';
import { toolPath } from '../host/tools.ts';
import { createChannel, type RunnerChannel } from './channel.ts';
import { runnerVersion } from './frames.ts';
import { createNamedPipes, type NamedPipes } from './pipes.ts';
import { findRunnerProgram } from './program.ts';

/**
 * Number of descriptors that the runner inherits: cgroup.procs of its control group, the connection to the worker, the
 * directory of pipes, the directory of control groups.
 */
const inheritedFds = 4;
/**
 * Where the half on the host has the directory of pipes. At its start, this descriptor is the connection by which the
 * worker requests pipes.
 */
const pipesFd = 5;
/** Number of commands that start no runner: in a box for one command its start would cost more than it saves. */
const commandsBefore = 1;

export interface RunnerOptions {
  readonly mode: RunnerMode;
  readonly boxId: string;
  /** Limits of commands. */
  readonly limits: readonly Ulimit[];
  readonly paths: BoxPaths;
  readonly runtime: OciRuntime;
  readonly cgroups: BoxCgroups;
  readonly log: Logger;
}

export interface ReadyRunner {
  readonly channel: RunnerChannel;
  readonly pipes: NamedPipes;
}

export interface Runner {
  /** Returns a runner that takes commands now, or null: then the command must take the ordinary path. */
  ready(): Promise<ReadyRunner | null>;
  /** The runner takes no new commands, and ends after its last one. */
  stop(): void;
  /**
   * Resolves when no process of a runner is left on the host. Call it after `stop`, when the box has ended.
   * @throws TIMEOUT
   */
  ended(): Promise<void>;
}

/** True for the control group of a runner that this worker started. A runner of an earlier worker is of no use. */
export function isRunnerOfThisWorker(group: string): boolean {
  return group.startsWith(groupPrefix);
}
const groupPrefix = `runner-${process.pid}-`;
let started = 0;

export function createRunner(options: RunnerOptions): Runner {
  return new BoxRunner(options);
}

class BoxRunner implements Runner {
  readonly #options: RunnerOptions;
  readonly #window = createRestartWindow(limits.runnerStartsMax);
  #ready: ReadyRunner | null = null;
  #starting: Promise<void> | null = null;
  #launcher: ChildProcess | null = null;
  #launcherEnd: Promise<void> = Promise.resolve();
  #commands = 0;
  /** True when no runner may be started any more. */
  #isDisabled: boolean;

  constructor(options: RunnerOptions) {
    this.#options = options;
    // The runner has not been tried on hosts that have only version 2 of the control groups.
    this.#isDisabled = options.mode === 'off' || (options.mode === 'auto' && isUnified());
  }

  async ready(): Promise<ReadyRunner | null> {
    if (this.#ready !== null || this.#isDisabled) return this.#ready;
    this.#commands += 1;
    const { mode } = this.#options;
    if (mode === 'always' || this.#commands > commandsBefore) {
      this.#starting ??= this.#start().finally(() => {
        this.#starting = null;
      });
    }
    if (mode === 'always') await this.#starting;
    return this.#ready;
  }

  stop(): void {
    this.#isDisabled = true;
    if (this.#ready === null) this.#launcher?.kill('SIGTERM');
    else this.#ready.channel.closeWhenIdle();
  }

  async ended(): Promise<void> {
    await this.#starting;
    await withDeadline(this.#launcherEnd, limits.killTimeoutMs, 'the end of the runner');
  }

  async #start(): Promise<void> {
    const { log } = this.#options;
    const program = await findRunnerProgram();
    if (program === null) {
      this.#isDisabled = true;
      return;
    }
    if (!this.#window.take()) return;
    const group = `${groupPrefix}${(started += 1)}`;
    let launched: ReadyRunner | null = null;
    try {
      launched = await this.#launch(program, group);
      await withDeadline(this.#readiness(launched.channel), limits.runnerStartTimeoutMs, 'starting the runner');
      if (this.#isDisabled) throw new Error('the runner was stopped');
    } catch (error) {
      launched?.channel.close('it did not start');
      this.#launcher?.kill('SIGTERM');
      await this.#killGroup(group);
      if (!this.#isDisabled)
        log.warn({ err: error }, 'the runner of the box did not start; commands take the ordinary path');
      return;
    }
    this.#ready = launched;
    log.debug({ group }, 'the runner of the box is ready');
    const { channel } = launched;
    void channel.closed.then(async (reason) => {
      if (this.#ready?.channel === channel) this.#ready = null;
      if (!this.#isDisabled)
        log.warn({ reason }, 'the runner of the box ended; commands take the ordinary path until it is back');
      await this.#killGroup(group);
    });
  }

  async #launch(program: string, group: string): Promise<ReadyRunner> {
    const { boxId, limits: ulimits, paths, runtime, cgroups } = this.#options;
    const processFile = join(paths.execs, `${group}.json`);
    await writeFile(processFile, ociText({ ...processSpec, ...processLimits(ulimits) }), { mode: 0o600 });
    if (this.#isDisabled) throw new Error('the runner was stopped');
    const joinFile = openSync(cgroups.addExec(group), constants.O_WRONLY);
    const launcher = spawn(
      program,
      [
        ...['launch', runnerVersion, cgroups.execsDir],
        ...[runtime.path, '--root', paths.runtimeRoot, '--log', join(paths.run, 'runner.log')],
        ...['exec', '--detach', '--process', processFile, '--preserve-fds', String(inheritedFds), boxId],
      ],
      {
        cwd: '/',
        detached: true,
        stdio: ['ignore', 'ignore', 'ignore', joinFile, 'pipe', 'pipe'],
        env: { PATH: toolPath, [homeMark]: paths.home },
      },
    );
    closeSync(joinFile);
    this.#launcher = launcher;
    this.#launcherEnd = new Promise((resolve) => {
      const ended = () => {
        resolve();
        if (this.#launcher !== launcher) return; // Another start has begun.
        this.#launcher = null;
        // The pipes are gone now. If the runner is still alive, it takes no more commands.
        this.#ready?.channel.closeWhenIdle();
        this.#ready = null;
      };
      launcher.once('exit', ended);
      launcher.once('error', ended);
    });
    launcher.unref();
    // The types of Node know only the first five.
    const [control, pool] = (launcher.stdio as readonly unknown[]).slice(4) as [Duplex, Duplex];
    return { channel: createChannel(control), pipes: createNamedPipes(pool, `/proc/${launcher.pid}/fd/${pipesFd}`) };
  }

  #readiness(channel: RunnerChannel): Promise<void> {
    const launcher = this.#launcher;
    const failed = new Promise<never>((_, reject) => {
      launcher?.once('error', reject);
      launcher?.once('exit', () => {
        reject(new Error('the OCI runtime did not start it; see runner.log'));
      });
      void channel.closed.then((reason) => {
        reject(new Error(reason));
      });
    });
    failed.catch(() => undefined); // A rejection after the runner is ready has no receiver.
    return Promise.race([channel.ready, failed]);
  }

  async #killGroup(group: string): Promise<void> {
    const { cgroups, log } = this.#options;
    await cgroups.killExec(group, limits.killTimeoutMs).catch((error: unknown) => {
      log.warn({ error: errorText(error) }, 'the runner of the box could not be killed');
    });
  }
}

/** The runner starts as a command of root. Its commands inherit its limits. */
const processSpec = {
  terminal: false,
  user: { uid: 0, gid: 0, additionalGids: [0], umask: boxUmask },
  args: [`${toolsInBox}/runner`, 'serve', runnerVersion],
  env: [`PATH=${defaultPath}`],
  cwd: '/',
  capabilities: {
    bounding: boxCapabilities,
    effective: boxCapabilities,
    permitted: boxCapabilities,
    inheritable: [],
    ambient: [],
  },
  noNewPrivileges: true,
};
