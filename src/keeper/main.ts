// The keeper: the process that `boxrun serve` becomes. It owns the lock of the state directory, handles the signals,
// and is the parent of the writer, the supervisor and the gateways. At its end it stops them in the opposite order; the
// writer stays while workers need it (writer-child.ts). The keeper stays small and speaks only with its children, so
// that little in it can fail.
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
  /** The token that requests over TCP must carry; null when they need none. Only the gateways get it. */
  readonly token: string | null;
  /** Called once, when the server takes requests. `facts` come from the gateway and say where it listens. */
  readonly onReady: (facts: Facts) => void;
}

/**
 * Runs the server until SIGTERM or SIGINT arrives, or until a child fails too often. Resolves with the exit code.
 * A second signal ends the process at once.
 * @throws RUNTIME_ERROR when another server uses the state directory
 * @throws UNAVAILABLE when a child does not start
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
  process.title = `boxrun keeper ${config.stateDir}`;
  const file = join(statePaths(config.stateDir).logsDir, 'keeper.log');
  const log = createLogger('keeper', config, { file });
  logWarnings(log);

  // The end: by a signal, or because a child fails too often.
  let end: (exitCode: number) => void = () => undefined;
  const ending = new Promise<number>((resolve) => {
    end = resolve;
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ signal }, 'the server ends');
      process.on('SIGTERM', () => process.exit(130));
      process.on('SIGINT', () => process.exit(130));
      // The writer is not in this list: it has its own process group, so Ctrl-C does not reach it.
      for (const child of [...gateways, supervisor]) child.stopRestarts();
      end(0);
    });
  }
  const onGivenUp = (reason: string) => {
    log.fatal({ reason }, 'the server ends: one of its processes failed too often');
    process.stderr.write(`boxrun serve: ${reason}; see ${file}\n`);
    end(1);
  };

  // The children. Each is restarted when it ends.
  const restarts: Record<string, number> = { writer: 0, supervisor: 0, gateway: 0 };
  const since = timestamp();
  // Metrics, bug reports, `service install` and the gateway's spools.ts read this file. The server works without it.
  const saveRestarts = () =>
    void writeProcessFile(statePaths(config.stateDir).keeperFile, { since, restarts }).catch(() => undefined);
  const keep = (name: string, startChild: StartChild) => {
    const onRestart = () => {
      restarts[name] = (restarts[name] ?? 0) + 1;
      saveRestarts();
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
  saveRestarts();
  // A process that ended shortly after an earlier keeper can leave its empty control group behind.
  removeEmptyGroups(config.stateDir);
  try {
    const { pid: writerPid } = await writer.start();
    faultPoint('keeper.boot.writer-up');
    await warnIfTogether(writerPid as number, log);
    await supervisor.start();
    faultPoint('keeper.boot.supervisor-up');
    // Only the facts of the first gateway are reported, because only it has the Unix socket.
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
