// The keeper's children: how each is started, stopped, and kept running within its restart budget.
// A child that is given up is reported once; the keeper then ends.
import { join } from 'node:path';
import { killQuietly } from '../shared/process/child-process.ts';
import { withDeadline } from '../shared/waiting/clock.ts';
import { type Config } from '../shared/settings/config.ts';
import { statePaths } from '../shared/settings/state-dir.ts';
import { BoxRunError, errorText } from '../shared/errors.ts';
import { faultPoint } from '../shared/faults/fault.ts';
import { limits } from '../shared/limits.ts';
import type { Logger } from '../shared/observe/log.ts';
import {
  startOwnProcess,
  wasKilledStarting,
  type OwnProcess,
  type Role,
  type SpawnNode,
} from '../shared/process/own-process.ts';
import { createRestartWindow } from '../shared/process/restart-window.ts';
import { spawnOnSharedPort } from './shared-port.ts';

export type Facts = Readonly<Record<string, unknown>>;

export interface RunningChild {
  readonly facts: Facts;
  readonly gone: Promise<string>;
  stop(): Promise<void>;
}

export type StartChild = () => Promise<RunningChild>;

export interface KeptChild {
  /**
   * Starts it and keeps it running.
   * @throws what the first start throws; one that is killed meanwhile is started again
   */
  start(): Promise<Facts>;
  /** From now on it is not started again: whoever ends the keeper may have ended it too. */
  letEnd(): void;
  stop(): Promise<void>;
}

export interface KeepOptions {
  readonly name: string;
  readonly startChild: StartChild;
  readonly log: Logger;
  readonly onRestart?: (reason: string) => void;
  readonly onGivenUp: (reason: string) => void;
}

export function keepChild({ name, startChild, log, onRestart, onGivenUp }: KeepOptions): KeptChild {
  const restarts = createRestartWindow(limits.childRestartsMax);
  let stopping = false;
  let running: RunningChild | null = null;
  let restarting: Promise<void> = Promise.resolve();

  async function watch(): Promise<void> {
    while (running !== null && !stopping) {
      const reason = await running.gone;
      running = null;
      restarting = restart(reason);
      await restarting;
    }
  }

  async function restart(first: string): Promise<void> {
    let reason = first;
    while (running === null && !stopping) {
      if (!restarts.take()) {
        onGivenUp(`the ${name} failed too often, last: ${reason}`);
        return;
      }
      log.warn({ child: name, reason }, 'a child is gone; it is started again');
      onRestart?.(reason);
      faultPoint('keeper.restart.child-gone');
      running = await startChild().catch((error: unknown) => {
        reason = errorText(error);
        return null;
      });
      faultPoint('keeper.restart.child-started');
    }
  }

  return {
    async start() {
      running = await startChild().catch(async (error: unknown) => {
        if (!wasKilledStarting(error)) throw error;
        await restart(errorText(error));
        return running;
      });
      if (running === null) throw new BoxRunError('UNAVAILABLE', `the ${name} cannot be kept running`);
      const { facts } = running;
      void watch();
      return facts;
    },
    letEnd() {
      stopping = true;
    },
    async stop() {
      stopping = true;
      await restarting; // One that is just coming up is stopped too.
      await running?.stop();
    },
  };
}

interface LaunchOptions {
  readonly secret?: string | null;
  readonly spawnNode?: SpawnNode;
  /** From TERM to KILL; limits.childStopMs when absent. */
  readonly stopMs?: number;
}

/** Starts a part of the server, with its log beside the others'. */
export function launch(config: Config, role: Role, detached: boolean, options: LaunchOptions = {}): OwnProcess {
  return startOwnProcess({
    ...options,
    orders: { role, config, workerId: null },
    logFile: join(statePaths(config.stateDir).logsDir, `${role}.log`),
    readyMs: limits.childReadyMs,
    detached,
    env: process.env,
  });
}

/** Supervisor and gateway: ordinary children, ended by TERM, and by KILL where that takes too long. */
export function ordinaryChild(
  config: () => Config,
  role: 'supervisor' | 'gateway',
  options: LaunchOptions = {},
): StartChild {
  return async () => {
    const { ready, exited, pid } = launch(config(), role, false, options);
    const facts = await ready.catch((error: unknown) => {
      killQuietly(pid, 'SIGKILL');
      throw error;
    });
    return {
      facts,
      gone: exited,
      async stop() {
        killQuietly(pid, 'SIGTERM');
        await withDeadline(exited, options.stopMs ?? limits.childStopMs, `stopping the ${role}`).catch(() => {
          killQuietly(pid, 'SIGKILL');
        });
        await exited;
      },
    };
  };
}

/**
 * The gateways, the one with the Unix socket first.
 * @param token what requests by TCP need, or null
 */
export function gatewayChildren(config: Config, token: string | null): StartChild[] {
  if (config.gateways === 1) return [onlyGateway(config, token)];
  return Array.from({ length: config.gateways }, (_, index) => {
    const own = index === 0 ? config : { ...config, socketPath: null };
    return ordinaryChild(() => own, 'gateway', { secret: token, spawnNode: spawnOnSharedPort });
  });
}

/** One that is started again listens on the port that the system chose for the first one: clients know that one. */
function onlyGateway(config: Config, token: string | null): StartChild {
  let present = config;
  const start = ordinaryChild(() => present, 'gateway', { secret: token });
  return async () => {
    const child = await start();
    const { tcp } = child.facts as { tcp?: Config['tcp'] };
    if (tcp !== undefined) present = { ...config, tcp };
    return child;
  };
}
