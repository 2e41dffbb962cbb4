// Several gateways on one TCP port: Node's cluster, of which the keeper is the primary. It opens the port and never
// takes a connection; the kernel gives each to a gateway that waits for one, and the port stays open as long as any
// gateway lives. Used by children.ts.
import cluster from 'node:cluster';
import type { SpawnNode } from '../shared/process/own-process.ts';

export const spawnOnSharedPort: SpawnNode = (file, nodeArgs, { stdio, env }) => {
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  // Each call is for the gateways to come, of which this is the next; descriptor 4 is the line on which they ask for
  // the port.
  cluster.setupPrimary({ exec: file, execArgv: [...nodeArgs], args: [], stdio: [...(stdio as []), 'ipc'], cwd: '/' });
  const gateway = cluster.fork(env);
  // Its process says the same, to whoever started it; unheard here it would end the keeper.
  gateway.on('error', () => undefined);
  return gateway.process;
};
