// The runner of one box: whether there is one, its start by a single exec of the OCI runtime, its end, and when another
// one is tried. Commands that come while none is ready take the ordinary path, so nothing ever waits for it. Owned by
// the driver of that box.
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
import { toolsInBox, type BoxPaths } from '../box/paths.ts';
import { boxUmask, ociText, processLimits } from '../exec/process-limits.ts';
import type { OciRuntime } from '../host/runtime.ts';
import { toolPath } from '../host/tools.ts';
import { createChannel, type RunnerChannel } from './channel.ts';
import { runnerVersion } from './frames.ts';
import { createNamedPipes, type NamedPipes } from './pipes.ts';
import { findRunnerProgram } from './program.ts';

/**
 * Descriptors that the runner inherits: its control group's cgroup.procs, the line to us, the directories of pipes and
 * of control groups.
 */
const inheritedFds = 4;
/** Where its half on the host has the directory of pipes; at first, the line by which it is asked for them. */
const pipesFd = 5;
/** A box for a single command, or two, is better off without. */
const commandsBefore = 1;

export interface RunnerOptions {
  readonly mode: RunnerMode;
  readonly boxId: string;
  /** Of commands. */
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
  /** A runner that takes commands now, or null: then the ordinary path is to be taken. */
  ready(): Promise<ReadyRunner | null>;
  /** No new commands; it ends after the last one that it has. */
  letGo(): void;
  /** Resolves when nothing of a runner is left on the host. After `letGo`, in a box that has ended. */
  gone(): Promise<void>;
}

/** Control groups of runners are named after the worker: it alone has a use for them. */
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
  #isOver: boolean;

  constructor(options: RunnerOptions) {
    this.#options = options;
    // Nobody has yet seen a runner join control groups where version 2 alone is mounted.
    this.#isOver = options.mode === 'off' || (options.mode === 'auto' && isUnified());
  }

  async ready(): Promise<ReadyRunner | null> {
    if (this.#ready !== null || this.#isOver) return this.#ready;
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

  letGo(): void {
    this.#isOver = true;
    if (this.#ready === null) this.#launcher?.kill('SIGTERM');
    else this.#ready.channel.closeWhenIdle();
  }

  async gone(): Promise<void> {
    await this.#starting;
    await withDeadline(this.#launcherEnd, limits.killTimeoutMs, 'the end of the runner');
  }

  async #start(): Promise<void> {
    const { log } = this.#options;
    const program = await findRunnerProgram();
    if (program === null) {
      this.#isOver = true;
      return;
    }
    if (!this.#window.take()) return;
    const group = `${groupPrefix}${(started += 1)}`;
    let launched: ReadyRunner | null = null;
    try {
      launched = await this.#launch(program, group);
      await withDeadline(this.#readiness(launched.channel), limits.runnerStartTimeoutMs, 'starting the runner');
      if (this.#isOver) throw new Error('the box was let go');
    } catch (error) {
      launched?.channel.close('it did not start');
      this.#launcher?.kill('SIGTERM');
      await this.#clean(group);
      if (!this.#isOver)
        log.warn({ err: error }, 'the runner of the box did not start; commands take the ordinary path');
      return;
    }
    this.#ready = launched;
    log.debug({ group }, 'the runner of the box is ready');
    const { channel } = launched;
    void channel.closed.then(async (reason) => {
      if (this.#ready?.channel === channel) this.#ready = null;
      if (!this.#isOver)
        log.warn({ reason }, 'the runner of the box is gone; commands take the ordinary path until there is another');
      await this.#clean(group);
    });
  }

  async #launch(program: string, group: string): Promise<ReadyRunner> {
    const { boxId, limits: ulimits, paths, runtime, cgroups } = this.#options;
    const processFile = join(paths.execs, `${group}.json`);
    await writeFile(processFile, ociText({ ...processSpec, ...processLimits(ulimits) }), { mode: 0o600 });
    if (this.#isOver) throw new Error('the box was let go');
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
        if (this.#launcher !== launcher) return; // Another one has begun.
        this.#launcher = null;
        // With it the pipes are gone: a runner that lives on takes no more commands.
        this.#ready?.channel.closeWhenIdle();
        this.#ready = null;
      };
      launcher.once('exit', ended);
      launcher.once('error', ended);
    });
    launcher.unref();
    // The types know of five.
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
    failed.catch(() => undefined); // After it has become ready nobody waits any more.
    return Promise.race([channel.ready, failed]);
  }

  async #clean(group: string): Promise<void> {
    const { cgroups, log } = this.#options;
    await cgroups.killExec(group, limits.killTimeoutMs).catch((error: unknown) => {
      log.warn({ error: errorText(error) }, 'the runner of the box could not be ended');
    });
  }
}

/** As a command of root; its commands inherit its limits. */
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
