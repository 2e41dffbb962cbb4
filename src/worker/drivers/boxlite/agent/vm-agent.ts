// The agent of one micro-VM: its start by one command of the engine, its token, and its connection. The agent dials
// this worker, and after this worker's death the next one. While there is no agent, commands take the ordinary path.
import { randomBytes } from 'node:crypto';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { AgentUse } from '../../../../shared/api.ts';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import { limits } from '../../../../shared/limits.ts';
import type { Logger } from '../../../../shared/observe/log.ts';
import { createRestartWindow } from '../../../../shared/process/restart-window.ts';
import { openAgentDoor, type AgentDoor } from '../../../agent/agent-door.ts';
import { createAgentLine, type AgentLine } from '../../../agent/agent-line.ts';

const tokenBytes = 32;
/** The token in the home of the box: the next worker needs it for the agent that lives on. */
const tokenName = 'agent-token';

export interface VmAgentOptions {
  readonly homeDir: string;
  /** Connections to the host from the VM's port for the agent arrive at this socket. */
  readonly socketPath: string;
  /** The lease of this worker. */
  readonly generation: number;
  /**
   * Starts the agent's program in the box, with the token in its input. Resolves when the program dials.
   * @throws when it cannot run in this box
   */
  readonly launch: (token: string) => Promise<void>;
  readonly log: Logger;
}

export interface VmAgent {
  /** Starts the agent of a VM that has just booted, in the background. */
  begin(): void;
  /** Takes over the agent of an earlier worker, if it dials within limits.agentAdoptTimeoutMs. */
  adopt(): Promise<void>;
  /** The agent that takes commands now, or null. */
  readonly present: AgentLine | null;
  /** The way that the next command takes. */
  readonly use: AgentUse;
  /** Returns an agent that takes commands now, or null: then the command must take the ordinary path. */
  ready(): Promise<AgentLine | null>;
  /** The VM has ended. Running commands of the agent end as lost. */
  close(reason: string): void;
}

export function createVmAgent(options: VmAgentOptions): VmAgent {
  return new Agent(options);
}

class Agent implements VmAgent {
  readonly #options: VmAgentOptions;
  readonly #window = createRestartWindow(limits.agentStartsMax);
  #door: AgentDoor | null = null;
  #present: AgentLine | null = null;
  #starting: Promise<void> | null = null;
  #isClosed = false;
  #hasWarned = false;
  /** True when the last start has failed, or when there were too many starts. */
  #hasFailed = false;
  /** Waits for the agent that has been started, or that an earlier worker has left. */
  #expecting: (() => void) | null = null;
  /** Gets the next connection of the present agent, which has lost the one before. */
  #redial: ((socket: Socket) => void) | null = null;

  constructor(options: VmAgentOptions) {
    this.#options = options;
  }

  get present(): AgentLine | null {
    return this.#present;
  }

  get use(): AgentUse {
    if (this.#present === null && this.#hasFailed) return { way: 'none', reason: 'not_started' };
    return { way: 'vsock', reason: null };
  }

  begin(): void {
    rmSync(join(this.#options.homeDir, tokenName), { force: true });
    void this.ready();
  }

  async adopt(): Promise<void> {
    const token = loadToken(this.#options.homeDir);
    if (token === null) return;
    try {
      await this.#within(limits.agentAdoptTimeoutMs, () => this.#listen(token));
    } catch (error) {
      this.#door?.setToken(null);
      this.#options.log.warn({ err: error }, 'the agent of the box could not be taken over; its commands are killed');
    }
  }

  async ready(): Promise<AgentLine | null> {
    await this.#present?.connected();
    if (this.#present !== null || this.#isClosed) return this.#present;
    this.#starting ??= this.#start().finally(() => {
      this.#starting = null;
    });
    await this.#starting;
    return this.#present;
  }

  close(reason: string): void {
    this.#isClosed = true;
    this.#door?.close();
    this.#present?.close(reason);
  }

  async #start(): Promise<void> {
    const { homeDir, launch, log } = this.#options;
    this.#hasFailed = !this.#window.take();
    if (this.#hasFailed) return;
    const token = randomBytes(tokenBytes).toString('hex');
    try {
      await this.#within(limits.agentStartTimeoutMs, async () => {
        await this.#listen(token);
        saveToken(homeDir, token);
        await launch(token);
      });
    } catch (error) {
      this.#door?.setToken(null);
      this.#hasFailed = true;
      if (this.#isClosed || this.#hasWarned) return;
      this.#hasWarned = true;
      log.warn({ err: error }, 'the agent of the box did not start; commands take the ordinary path');
    }
  }

  /** Waits for the agent that `begin` lets come. */
  async #within(ms: number, begin: () => Promise<void>): Promise<void> {
    const coming = new Promise<void>((resolve) => {
      this.#expecting = resolve;
    });
    try {
      await withDeadline(
        begin().then(() => coming),
        ms,
        'waiting for the agent of the box',
      );
    } finally {
      this.#expecting = null;
    }
  }

  async #listen(token: string): Promise<void> {
    this.#door?.setToken(token);
    this.#door ??= await openAgentDoor(this.#options.socketPath, token, (socket) => void this.#greet(socket));
    if (this.#isClosed) this.#door.close();
  }

  async #greet(socket: Socket): Promise<void> {
    socket.unref();
    // The agent has one connection. If it dials again, it has lost the one before, and its commands go on.
    if (this.#redial === null) this.#present?.lose();
    const redial = this.#redial; // `lose` may have set it.
    this.#redial = null;
    if (redial !== null) {
      redial(socket);
      return;
    }
    const { generation, log } = this.#options;
    const line = createAgentLine(
      socket,
      generation,
      () =>
        new Promise((resolve) => {
          this.#redial = resolve;
        }),
    );
    void line.closed.then((reason) => {
      this.#redial = null;
      if (this.#present !== line) return;
      this.#present = null;
      if (!this.#isClosed)
        log.warn({ reason }, 'the agent of the box ended; commands take the ordinary path until it is back');
    });
    const isReady = await Promise.race([line.ready.then(() => true), line.closed.then(() => false)]);
    if (!isReady || this.#isClosed) return;
    this.#present = line;
    this.#hasFailed = false;
    // This worker has ended the commands of a connection that was lost. So only a worker that adopts continues any.
    if (this.#expecting === null) for (const command of line.found.values()) command.forget();
    log.debug({ found: line.found.size }, 'the agent of the box is ready');
    this.#expecting?.();
  }
}

function saveToken(homeDir: string, token: string): void {
  const path = join(homeDir, tokenName);
  writeFileSync(`${path}.new`, token, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

function loadToken(homeDir: string): string | null {
  try {
    return readFileSync(join(homeDir, tokenName), 'utf8');
  } catch {
    return null;
  }
}
