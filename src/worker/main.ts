// The main function of a worker process. A supervisor starts the worker, and the worker outlives that supervisor.
// With a worker id, the process serves one box over its own socket. Without a worker id it only probes the engine: it
// puts the result into its ready line.
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

/** @param keepCompiled saves the code that V8 has compiled in this process, so that later workers start faster */
export async function main(keepCompiled: () => void): Promise<void> {
  const { orders, ready, parentGone } = takeOrders();
  let parentIsGone = false;
  void parentGone.then(() => {
    parentIsGone = true;
  });
  const { config, workerId } = orders;
  resetInherited();
  process.on('SIGINT', () => undefined); // The keeper reacts to Ctrl-C in its terminal; workers ignore it.
  process.on('SIGHUP', () => undefined);
  if (workerId === null) {
    process.title = `boxrun probe ${config.stateDir}`;
    ready({ ...(await probeEngine(config)) });
    return;
  }
  process.title = `boxrun worker spare ${config.stateDir}`;
  const processLog = createProcessLog('worker', config, { fields: { workerId } });
  const { log } = processLog;
  logWarnings(log);
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'an unexpected error ends the worker');
    process.exit(70);
  });
  // The worker does this before it has children, because a child inherits the control group.
  await leaveServiceGroup({ name: workerId, stateDir: config.stateDir }).catch((error: unknown) => {
    log.warn({ reason: errorText(error) }, 'this worker stays in the control group of the server, and ends with it');
  });
  const worker = await runWorker({ config, workerId, processLog, parentIsGone: () => parentIsGone, keepCompiled });
  process.on('SIGTERM', () => void worker.stop('SIGTERM'));
  ready();
  prepareContract(workerContract, 'server');
  prepareContract(writerContract, 'client');
  performance.now(); // Its first call takes milliseconds, because Node then loads the code for it.
}

/**
 * Resets the umask and the OOM score to the usual values. Otherwise the processes of the box would inherit the values
 * of the server: the container runtime has no option for them when it starts a command.
 */
function resetInherited(): void {
  process.umask(0o022);
  const score = '/proc/self/oom_score_adj';
  try {
    if (readFileSync(score, 'utf8').trim() !== '0') writeFileSync(score, '0');
  } catch {
    // Only root may lower the score. A box also works with a higher score.
  }
}
