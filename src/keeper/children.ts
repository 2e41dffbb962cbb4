// The keeper's children: how each child is started, stopped, and restarted within its restart budget.
// When a child has used up its budget, `onGivenUp` is called once. The child is not started again after that.
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
  wasKilledBeforeReady,
  type OwnProcess,
  type Role,
  type SpawnNode,
} from '../shared/process/own-process.ts';
import { createRestartWindow } from '../shared/process/restart-window.ts';
import { spawnOnSharedPort } from './shared-port.ts';

export type Facts = Readonly<Record<string, unknown>>;

export interface RunningChild {
  readonly facts: Facts;
  /** Resolves with the reason when the child has ended. */
  readonly gone: Promise<string>;
  stop(): Promise<void>;
}

export type StartChild = () => Promise<RunningChild>;

export interface KeptChild {
  /**
   * Starts the child and keeps it running.
   * @throws the error of the first start. A child that a signal kills during its start is started again instead.
   * @throws UNAVAILABLE when the restart budget is used up before the child runs
   */
  start(): Promise<Facts>;
  /**
   * From now on the child is not started again. Ctrl-C reaches the children too, and may end one before the keeper
   * does.
   */
  stopRestarts(): void;
  /** Stops the child and does not start it again. */
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

  async function restartWheneverGone(): Promise<void> {
    while (running !== null && !stopping) {
      const reason = await running.gone;
      running = null;
      restarting = restart(reason);
      await restarting;
    }
  }

  async function restart(firstReason: string): Promise<void> {
    let reason = firstReason;
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
        if (!wasKilledBeforeReady(error)) throw error;
        await restart(errorText(error));
        return running;
      });
      if (running === null) throw new BoxRunError('UNAVAILABLE', `the ${name} cannot be kept running`);
      const { facts } = running;
      void restartWheneverGone();
      return facts;
    },
    stopRestarts() {
      stopping = true;
    },
    async stop() {
      stopping = true;
      await restarting; // A child that is just starting is then stopped, too.
      await running?.stop();
    },
  };
}

interface LaunchOptions {
  readonly secret?: string | null;
  readonly spawnNode?: SpawnNode;
  /** Milliseconds from SIGTERM to SIGKILL; limits.childStopMs when absent. */
  readonly stopMs?: number;
}

/**
 * Starts one process of the server. Its log is `<role>.log` in the log directory.
 * @param detached true for a process that must survive the death of the keeper
 */
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

/** A supervisor or a gateway. `stop` sends SIGTERM, and SIGKILL if the child has not exited after `stopMs`. */
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
 * One start function for each gateway. The first gateway owns the Unix socket.
 * @param token the token that requests over TCP must carry; null when they need none
 */
export function gatewayChildren(config: Config, token: string | null): StartChild[] {
  if (config.gateways === 1) return [onlyGateway(config, token)];
  return Array.from({ length: config.gateways }, (_, index) => {
    const gatewayConfig = index === 0 ? config : { ...config, socketPath: null };
    return ordinaryChild(() => gatewayConfig, 'gateway', { secret: token, spawnNode: spawnOnSharedPort });
  });
}

/** A restarted gateway listens on the port that the system chose for the first one, because clients know that port. */
function onlyGateway(config: Config, token: string | null): StartChild {
  let currentConfig = config;
  const start = ordinaryChild(() => currentConfig, 'gateway', { secret: token });
  return async () => {
    const child = await start();
    const { tcp } = child.facts as { tcp?: Config['tcp'] };
    if (tcp !== undefined) currentConfig = { ...config, tcp };
    return child;
  };
}
