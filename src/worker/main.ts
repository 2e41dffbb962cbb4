// The worker process: one box, one engine handle, a socket of its own. Started by a supervisor, outlives it.
// Without a worker id it only tries the engine and says how that went.
import { readFileSync, writeFileSync } from 'node:fs';
import { workerContract } from '../shared/contracts/worker.ts';
import { writerContract } from '../shared/contracts/writer.ts';
import { errorText } from '../shared/errors.ts';
import { prepareContract } from '../shared/ipc/contract.ts';
import { createProcessLog, logWarnings } from '../shared/observe/log.ts';
import { takeOrders } from '../shared/process/own-process.ts';
import { leaveServiceGroup } from '../shared/host/service-group.ts';
import { probeEngine } from './engine-probe.ts';
import { runWorker } from './process.ts';

/** Called once, by entry.ts; `keepCompiled` keeps what is compiled of this process for others. */
export async function main(keepCompiled: () => void): Promise<void> {
  const { orders, ready, parentGone } = takeOrders();
  let parentIsGone = false;
  void parentGone.then(() => {
    parentIsGone = true;
  });
  const { config, workerId } = orders;
  stopInheriting();
  process.on('SIGINT', () => undefined); // A terminal's Ctrl-C is the keeper's business.
  process.on('SIGHUP', () => undefined);
  if (workerId === null) {
    process.title = 'boxrun probe';
    ready({ ...(await probeEngine(config)) });
    return;
  }
  process.title = 'boxrun worker spare';
  const processLog = createProcessLog('worker', config, { fields: { workerId } });
  const { log } = processLog;
  logWarnings(log);
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'an unexpected error ends the worker');
    process.exit(70);
  });
  // Before it has children: they are where it is.
  await leaveServiceGroup({ name: workerId, stateDir: config.stateDir }).catch((error: unknown) => {
    log.warn({ reason: errorText(error) }, 'whoever ends the server by its control group ends this worker too');
  });
  const worker = await runWorker({ config, workerId, processLog, parentIsGone: () => parentIsGone, keepCompiled });
  process.on('SIGTERM', () => void worker.leave('SIGTERM'));
  ready();
  prepareContract(workerContract, 'server');
  prepareContract(writerContract, 'client');
  performance.now(); // Node loads what is behind it at the first use, which takes milliseconds.
}

/**
 * What the server was started with and the processes of a box would inherit: the runtime has no word for it where it
 * starts commands.
 */
function stopInheriting(): void {
  process.umask(0o022);
  const score = '/proc/self/oom_score_adj';
  try {
    if (readFileSync(score, 'utf8').trim() !== '0') writeFileSync(score, '0');
  } catch {
    // Only root may lower it, and a box runs with a higher one too.
  }
}
