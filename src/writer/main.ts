// Composes the writer process, which owns the only write connection to the database. It ends when neither a keeper nor
// a worker needs it any more. A change that it has acknowledged is always on the disk.
import type { KeepCompiled } from '../shared/process/compiled-code.ts';
import { buildId } from '../shared/process/build.ts';
import { writerContract } from '../shared/contracts/writer.ts';
import { errorText } from '../shared/errors.ts';
import { createDiskReserve } from '../shared/host/disk-reserve.ts';
import { statePaths } from '../shared/settings/state-dir.ts';
import { serveContract, type IpcServer } from '../shared/ipc/server.ts';
import { limits } from '../shared/limits.ts';
import { createProcessLog, logWarnings } from '../shared/observe/log.ts';
import { createLinkMeter, createMeters } from '../shared/observe/metrics.ts';
import { takeOrders } from '../shared/process/own-process.ts';
import { writeProcessFile } from '../shared/process/process-file.ts';
import { leaveServiceGroup } from '../shared/host/service-group.ts';
import { createBatch } from './batch.ts';
import { createHandlers } from './control.ts';
import { openDatabase } from './database.ts';
import { createFollowers } from './followers.ts';
import { createWriterMeters } from './meters.ts';
import { createStateLog } from './state-log.ts';
import { prepareStatements } from './statements.ts';
import { startCleanup } from './cleanup.ts';
import { faultPoint } from '../shared/faults/fault.ts';

/** @param keepCompiled stores the compiled code of this process for the next writer */
export async function main(keepCompiled: KeepCompiled): Promise<void> {
  // The orders are what the keeper gives at the start. `working`, `ready` and `refuse` tell the keeper how the start
  // goes.
  const { orders, ready, refuse, working } = takeOrders();
  const { config } = orders;
  process.title = `boxrun writer ${config.stateDir}`;
  const processLog = createProcessLog('writer', config);
  const { log } = processLog;
  logWarnings(log);
  await leaveServiceGroup({ name: `writer-${process.pid}`, stateDir: config.stateDir }).catch((error: unknown) => {
    log.warn(
      { reason: errorText(error) },
      'the writer stays in the control group of the server, so a program that ends this group also ends the writer',
    );
  });

  // The database, and a reserve file that is removed when the disk is full, so that the database has room.
  const database = await openDatabase(config.dbPath, working).catch(async (error: unknown) => {
    log.fatal({ err: error }, 'the database cannot be opened');
    await refuse(error);
    return process.exit(1);
  });
  const { checkpoint, db, instanceId } = database;
  const reserve = createDiskReserve(config);
  const batch = createBatch(db, () => {
    const isReleased = reserve.release();
    if (isReleased) log.warn('the disk is full: the reserve file is released for the database');
    return isReleased;
  });

  // What is done with the database.
  const statements = prepareStatements(db);
  const followers = createFollowers();
  const meters = createMeters('writer');
  const states = createStateLog();
  const cleanup = startCleanup({ batch, checkpoint, statements, log, retentionHours: config.caps.retentionHours });
  let retired = false;
  let idleTimer: NodeJS.Timeout | undefined;

  // The service for the other processes.
  const server: IpcServer<typeof writerContract> = await serveContract({
    path: statePaths(config.stateDir).writerSocket,
    contract: writerContract,
    hello: () => ({ pid: process.pid, instanceId, build: buildId, dbPath: config.dbPath }),
    handlers: createHandlers({
      batch,
      followers,
      states,
      statements,
      meters,
      figures: createWriterMeters(meters, batch),
      onSettings(settings) {
        processLog.change(settings);
        cleanup.setRetention(settings.retentionHours);
        log.info({ settings }, 'the writer has new settings');
      },
      onRetire() {
        retired = true;
        return endIfUnneeded();
      },
    }),
    log,
    observe: createLinkMeter(meters)('writer'),
    onConnect({ hello }) {
      if (hello.role === 'keeper') retired = false; // The next keeper has adopted this writer.
      endIfUnneeded();
    },
    onDisconnect(peer) {
      followers.removePeer(peer);
      states.unwatch(peer);
      endIfUnneeded();
    },
  });
  process.on('SIGTERM', () => void end('SIGTERM'));
  process.on('SIGINT', () => undefined); // The keeper handles Ctrl-C in a terminal, for all its processes.
  endIfUnneeded();
  await writeProcessFile(statePaths(config.stateDir).writerFile);
  faultPoint('writer.boot.listening');
  ready({ instanceId });
  log.info({ db: config.dbPath, instanceId }, 'the writer is ready');

  /**
   * Ends the writer if it has neither a keeper nor a worker. It waits limits.writerIdleExitMs for the next keeper,
   * unless the last one has said that it needs the writer no more.
   * @returns whether the writer is going to end
   */
  function endIfUnneeded(): boolean {
    clearTimeout(idleTimer);
    const needed = [...server.peers].some(
      ({ hello }) => hello.role === 'worker' || (hello.role === 'keeper' && !retired),
    );
    if (needed) return false;
    idleTimer = setTimeout(
      () => void end('neither a keeper nor a worker needs it'),
      retired ? 0 : limits.writerIdleExitMs,
    );
    return true;
  }

  async function end(reason: string): Promise<void> {
    cleanup.close();
    log.info({ reason }, 'the writer ends');
    faultPoint('writer.end.asked');
    await server.close();
    await batch.idle();
    database.close();
    keepCompiled();
    process.exit(0);
  }
}
