// The keeper: what a `boxrun serve` process becomes. Owns the lock of the state directory, signals, and writer,
// supervisor and gateway as its children. Small on purpose, and with no IPC but to its children: nothing in it can
// fail.
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { timestamp } from '../shared/waiting/clock.ts';
import { type Config } from '../shared/settings/config.ts';
import { makeStateDirectories, statePaths } from '../shared/settings/state-dir.ts';
import { BoxRunError } from '../shared/errors.ts';
import { faultPoint } from '../shared/faults/fault.ts';
import { limits } from '../shared/limits.ts';
import { tryLock } from '../shared/process/lock.ts';
import { createLogger, logWarnings } from '../shared/observe/log.ts';
import { writeProcessFile } from '../shared/process/process-file.ts';
import { removeEmptyGroups } from '../shared/host/service-group.ts';
import { warnIfTogether } from './group-warning.ts';
import { gatewayChildren, keepChild, ordinaryChild, type Facts, type StartChild } from './children.ts';
import { writerChild } from './writer-child.ts';

export interface KeeperOptions {
  /** What requests by TCP need; null: nothing. Only the gateway hears of it. */
  readonly token: string | null;
  /** The server takes requests from now on; `facts` are the gateway's: where it listens. */
  readonly onReady: (facts: Facts) => void;
}

/**
 * Runs the server until it is told to end (SIGTERM, SIGINT) or a child fails too often; gives the exit code.
 * A second signal ends it at once.
 * @throws RUNTIME_ERROR when another server has the state directory, UNAVAILABLE when a child does not come up
 */
export async function runKeeper(config: Config, { token, onReady }: KeeperOptions): Promise<number> {
  makeStateDirectories(config.stateDir);
  await chmod(config.stateDir, 0o700);
  const lock = await tryLock(statePaths(config.stateDir).lock);
  if (lock === null) {
    throw new BoxRunError('RUNTIME_ERROR', `another server uses the state directory ${config.stateDir}`, {
      hint: 'stop it, or set BOXRUN_STATE_DIR to another directory',
    });
  }
  faultPoint('keeper.boot.locked');
  process.title = 'boxrun keeper';
  const file = join(statePaths(config.stateDir).logsDir, 'keeper.log');
  const log = createLogger('keeper', config, { file });
  logWarnings(log);

  let end: (exitCode: number) => void = () => undefined;
  const ending = new Promise<number>((resolve) => {
    end = resolve;
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ signal }, 'the server ends');
      process.on('SIGTERM', () => process.exit(130));
      process.on('SIGINT', () => process.exit(130));
      for (const child of [...gateways, supervisor]) child.letEnd();
      end(0);
    });
  }
  const onGivenUp = (reason: string) => {
    log.fatal({ reason }, 'the server ends: a part of it cannot be kept running');
    process.stderr.write(`boxrun serve: ${reason}; see ${file}\n`);
    end(1);
  };
  const restarts: Record<string, number> = { writer: 0, supervisor: 0, gateway: 0 };
  const since = timestamp();
  // For metrics and reports; the server does not depend on it.
  const note = () =>
    void writeProcessFile(statePaths(config.stateDir).keeperFile, { since, restarts }).catch(() => undefined);
  const keep = (name: string, startChild: StartChild) => {
    const onRestart = () => {
      restarts[name] = (restarts[name] ?? 0) + 1;
      note();
    };
    return keepChild({ name, startChild, log, onRestart, onGivenUp });
  };
  const writer = keep('writer', writerChild(config));
  const supervisor = keep(
    'supervisor',
    ordinaryChild(() => config, 'supervisor', {
      stopMs: config.onExit === 'stop' ? limits.supervisorStopMs : limits.supervisorEndMs,
    }),
  );
  const gateways = gatewayChildren(config, token).map((startChild) => keep('gateway', startChild));
  note();
  removeEmptyGroups(config.stateDir); // One that outlived an earlier keeper by a moment left it behind.
  try {
    const { pid: writerPid } = await writer.start();
    faultPoint('keeper.boot.writer-up');
    await warnIfTogether(writerPid as number, log);
    await supervisor.start();
    faultPoint('keeper.boot.supervisor-up');
    // The first one has the Unix socket, and its words are told.
    const [facts = {}] = await Promise.all(gateways.map((gateway) => gateway.start()));
    faultPoint('keeper.boot.gateway-up');
    onReady(facts);
    log.info({ facts }, 'the server is ready');
    return await ending;
  } finally {
    faultPoint('keeper.end.asked');
    await Promise.all(gateways.map((gateway) => gateway.stop()));
    faultPoint('keeper.end.gateway-gone');
    await supervisor.stop();
    faultPoint('keeper.end.supervisor-gone');
    await writer.stop();
    removeEmptyGroups(config.stateDir);
    lock.release();
  }
}
