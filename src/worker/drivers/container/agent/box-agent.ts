// The agent of one box: its start by a single exec of the OCI runtime, its end, and its restarts. The first command of
// a box starts it and waits for it, which takes as long as a start of the command itself by the runtime. If the agent
// cannot be started, commands take the ordinary path.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { AgentUse, Ulimit } from '../../../../shared/api.ts';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import type { AgentMode } from '../../../../shared/settings/config.ts';
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
import { isAlive, processIdentity, type ProcessIdentity } from '../../../../shared/process/child-process.ts';
import { loadJson, saveJson, type AgentRecord } from '../box/record.ts';
import { createAgentLine, type AgentLine } from '../../../agent/agent-line.ts';
import { agentVersion } from '../../../agent/frames.ts';
import { findProgram } from '../../programs.ts';

/**
 * Number of descriptors that the agent inherits: cgroup.procs of its control group, the socket at which it listens for
 * workers, and the directory of control groups.
 */
const inheritedFds = 3;
/** Name of that socket in the directory of the running box. */
const socketName = 'agent.sock';
const launcherPollMs = 10;

export interface BoxAgentOptions {
  readonly mode: AgentMode;
  readonly boxId: string;
  /** The lease of this worker. */
  readonly generation: number;
  /** Limits of commands. */
  readonly limits: readonly Ulimit[];
  readonly paths: BoxPaths;
  readonly runtime: OciRuntime;
  readonly cgroups: BoxCgroups;
  readonly log: Logger;
}

export interface BoxAgent {
  /** Takes over the agent of an earlier worker, if it still lives. Call it before any other. */
  adopt(): Promise<void>;
  /** The agent that takes commands now, or null. */
  readonly present: AgentLine | null;
  /** The way that the next command takes. */
  readonly use: AgentUse;
  /** Returns an agent that takes commands now, or null: then the command must take the ordinary path. */
  ready(): Promise<AgentLine | null>;
  /** The agent takes no new commands, and ends after its last one. */
  stop(): void;
  /**
   * Resolves when no process of an agent is left on the host. Call it after `stop`, when the box has ended.
   * @throws TIMEOUT
   */
  ended(): Promise<void>;
}

/** True for the control group of an agent that this worker started or took over. */
export function isAgentOfThisWorker(group: string): boolean {
  return ownGroups.has(group);
}
const ownGroups = new Set<string>();
let started = 0;

/** Name of the file with the record, in the directory of the running box. */
const recordName = 'agent.json';

export function createBoxAgent(options: BoxAgentOptions): BoxAgent {
  return new Agent(options);
}

class Agent implements BoxAgent {
  readonly #options: BoxAgentOptions;
  readonly #window = createRestartWindow(limits.agentStartsMax);
  #ready: AgentLine | null = null;
  #starting: Promise<void> | null = null;
  #launcher: ChildProcess | null = null;
  #launcherEnd: Promise<void> = Promise.resolve();
  /** True when no agent may be started any more. */
  #isDisabled: boolean;
  /** True when the last start has failed, or when there were too many starts. */
  #hasFailed = false;

  constructor(options: BoxAgentOptions) {
    this.#options = options;
    // The agent has not been tried on hosts that have only version 2 of the control groups.
    this.#isDisabled = options.mode === 'off' || (options.mode === 'auto' && isUnified());
  }

  get present(): AgentLine | null {
    return this.#ready;
  }

  get use(): AgentUse {
    if (this.#ready !== null) return { way: 'socket', reason: null };
    if (this.#options.mode === 'off') return { way: 'none', reason: 'off' };
    if (this.#hasFailed) return { way: 'none', reason: 'not_started' };
    return this.#isDisabled ? { way: 'none', reason: 'host' } : { way: 'socket', reason: null };
  }

  async adopt(): Promise<void> {
    const { paths, generation, log } = this.#options;
    const record = loadJson<AgentRecord>(join(paths.run, recordName));
    if (record === null || this.#isDisabled || !(await isAlive(record.launcher))) return;
    let line: AgentLine | null = null;
    try {
      line = createAgentLine(await connectTo(paths.run), generation, () => connectTo(paths.run));
      await withDeadline(Promise.race([line.ready, failure(line)]), limits.agentAdoptTimeoutMs, 'the agent of the box');
    } catch (error) {
      line?.close('it does not answer');
      log.warn({ err: error }, 'the agent of the box could not be taken over; its commands are killed');
      return;
    }
    this.#launcherEnd = untilGone(record.launcher);
    this.#use(line, record.group);
  }

  async ready(): Promise<AgentLine | null> {
    await this.#ready?.connected();
    if (this.#ready !== null || this.#isDisabled) return this.#ready;
    this.#starting ??= this.#start().finally(() => {
      this.#starting = null;
    });
    await this.#starting;
    return this.#ready;
  }

  stop(): void {
    this.#isDisabled = true;
    // An agent that leaves is of no use for the next worker.
    rmSync(join(this.#options.paths.run, recordName), { force: true });
    if (this.#ready === null) this.#launcher?.kill('SIGTERM');
    else this.#ready.leave();
  }

  async ended(): Promise<void> {
    await this.#starting;
    await withDeadline(this.#launcherEnd, limits.killTimeoutMs, 'the end of the agent');
  }

  async #start(): Promise<void> {
    const { log } = this.#options;
    const program = await findProgram('agent');
    if (program === null) {
      this.#isDisabled = true;
      this.#hasFailed = true;
      return;
    }
    this.#hasFailed = !this.#window.take();
    if (this.#hasFailed) return;
    const group = `agent-${process.pid}-${(started += 1)}`;
    ownGroups.add(group);
    let launched: AgentLine | null = null;
    try {
      launched = await this.#launch(program, group);
      await withDeadline(this.#readiness(launched), limits.agentStartTimeoutMs, 'starting the agent');
      if (this.#isDisabled) throw new Error('the agent was stopped');
    } catch (error) {
      this.#hasFailed = true;
      launched?.close('it did not start');
      this.#launcher?.kill('SIGTERM');
      await this.#killGroup(group);
      if (!this.#isDisabled)
        log.warn({ err: error }, 'the agent of the box did not start; commands take the ordinary path');
      return;
    }
    const launcher = await processIdentity(this.#launcher?.pid ?? 0);
    if (launcher !== null) {
      const record: AgentRecord = { group, launcher };
      saveJson(join(this.#options.paths.run, recordName), record);
    }
    this.#use(launched, group);
  }

  #use(line: AgentLine, group: string): void {
    const { log } = this.#options;
    ownGroups.add(group);
    this.#hasFailed = false;
    this.#ready = line;
    log.debug({ group }, 'the agent of the box is ready');
    void line.closed.then(async (reason) => {
      if (this.#ready === line) this.#ready = null;
      if (!this.#isDisabled)
        log.warn({ reason }, 'the agent of the box ended; commands take the ordinary path until it is back');
      await this.#killGroup(group);
    });
  }

  async #launch(program: string, group: string): Promise<AgentLine> {
    const { boxId, limits: ulimits, paths, runtime, cgroups } = this.#options;
    const processFile = join(paths.execs, `${group}.json`);
    await writeFile(processFile, ociText({ ...processSpec, ...processLimits(ulimits) }), { mode: 0o600 });
    if (this.#isDisabled) throw new Error('the agent was stopped');
    const joinFile = openSync(cgroups.addExec(group), constants.O_WRONLY);
    const launcher = spawn(
      program,
      [
        ...['launch', String(agentVersion), paths.run, socketName, cgroups.execsDir],
        ...[runtime.path, '--root', paths.runtimeRoot, '--log', join(paths.run, 'agent.log')],
        ...['exec', '--detach', '--process', processFile, '--preserve-fds', String(inheritedFds), boxId],
      ],
      {
        cwd: '/',
        detached: true,
        stdio: ['ignore', 'pipe', 'ignore', joinFile],
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
        // Its parent is gone. If the agent is still alive, it takes no more commands.
        this.#ready?.leave();
        this.#ready = null;
      };
      launcher.once('exit', ended);
      launcher.once('error', ended);
    });
    launcher.unref();
    const socket = await this.#connect(launcher.stdout as Readable);
    return createAgentLine(socket, this.#options.generation, () => connectTo(paths.run));
  }

  /** Connects when the launcher has said that the socket is there. */
  async #connect(said: Readable): Promise<Socket> {
    await new Promise<void>((resolve, reject) => {
      said.once('data', () => {
        resolve();
      });
      said.once('close', () => {
        reject(new Error('the agent could not be launched'));
      });
    }).finally(() => {
      said.destroy();
    });
    return connectTo(this.#options.paths.run);
  }

  #readiness(line: AgentLine): Promise<void> {
    const launcher = this.#launcher;
    const failed = new Promise<never>((_, reject) => {
      launcher?.once('error', reject);
      launcher?.once('exit', () => {
        reject(new Error('the OCI runtime did not start it; see agent.log'));
      });
      void line.closed.then((reason) => {
        reject(new Error(reason));
      });
    });
    failed.catch(() => undefined); // A rejection after the agent is ready has no receiver.
    return Promise.race([line.ready, failed]);
  }

  async #killGroup(group: string): Promise<void> {
    const { cgroups, log } = this.#options;
    await cgroups.killExec(group, limits.killTimeoutMs).catch((error: unknown) => {
      log.warn({ error: errorText(error) }, 'the agent of the box could not be killed');
    });
  }
}

async function connectTo(runDir: string): Promise<Socket> {
  // The path of a socket may only be short, so it goes through /proc.
  const directory = openSync(runDir, constants.O_RDONLY | constants.O_DIRECTORY);
  const socket = connect(`/proc/self/fd/${directory}/${socketName}`);
  await once(socket, 'connect').finally(() => {
    closeSync(directory);
  });
  socket.unref();
  return socket;
}

async function failure(line: AgentLine): Promise<never> {
  throw new Error(await line.closed);
}

/** Resolves when a process that is not our child has ended. */
async function untilGone(identity: ProcessIdentity): Promise<void> {
  while (await isAlive(identity)) await delay(launcherPollMs);
}

/** The agent starts as a command of root. Its commands inherit its limits. */
const processSpec = {
  terminal: false,
  user: { uid: 0, gid: 0, additionalGids: [0], umask: boxUmask },
  args: [`${toolsInBox}/agent`, 'serve', String(agentVersion)],
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
