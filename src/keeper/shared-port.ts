// Several gateways on one TCP port, through Node's cluster module. The keeper is the primary: it opens the port but
// never accepts a connection. The kernel gives each connection to a gateway that waits for one. The port stays open as
// long as any gateway lives.
import cluster from 'node:cluster';
import type { SpawnNode } from '../shared/process/own-process.ts';

export const spawnOnSharedPort: SpawnNode = (file, nodeArgs, { stdio, env }) => {
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  // setupPrimary() sets the options of all later forks, so it runs before each fork. Descriptor 4 is the IPC channel on
  // which the gateway asks the keeper for the port.
  cluster.setupPrimary({ exec: file, execArgv: [...nodeArgs], args: [], stdio: [...(stdio as []), 'ipc'], cwd: '/' });
  const gateway = cluster.fork(env);
  // own-process.ts handles this error on `gateway.process`. Here it needs a listener, or the keeper would end.
  gateway.on('error', () => undefined);
  return gateway.process;
};
