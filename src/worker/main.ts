// The worker process: one box, one engine handle, a socket of its own. Started by a supervisor, outlives it.
// Without a worker id it only tries the engine and says how that went.
import { workerContract } from '../shared/contracts/worker.ts';
import { writerContract } from '../shared/contracts/writer.ts';
import { prepareContract } from '../shared/ipc/contract.ts';
import { createLogger, logWarnings } from '../shared/log.ts';
import { takeOrders } from '../shared/own-process.ts';
import { probeEngine } from './probe.ts';
import { runWorker } from './process.ts';

const { orders, ready, parentGone } = takeOrders();
let parentIsGone = false;
void parentGone.then(() => { parentIsGone = true; });
const { config, workerId } = orders;
process.on('SIGINT', () => undefined); // A terminal's Ctrl-C is the keeper's business.
process.on('SIGHUP', () => undefined);
if (workerId === null) {
  process.title = 'boxrun probe';
  ready({ ...(await probeEngine(config)) });
} else {
  process.title = 'boxrun worker spare';
  const log = createLogger('worker', config, { fields: { workerId } });
  logWarnings(log);
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'an unexpected error ends the worker');
    process.exit(70);
  });
  const worker = await runWorker(config, workerId, log, () => parentIsGone);
  process.on('SIGTERM', () => void worker.leave('SIGTERM'));
  ready();
  for (const contract of [workerContract, writerContract]) prepareContract(contract);
}
