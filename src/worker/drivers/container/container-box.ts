// The container driver as the worker sees it: one driver value holds one box on a given OCI runtime. This file only
// composes. lifecycle.ts has the life of the box, exec/commands.ts its commands, and container-state.ts what both
// share.
import type { Driver, DriverContext } from '../driver-contract.ts';
import { execInBox, foundExecs, heldExecs, killStrayExecs, resumeExec } from './exec/commands.ts';
import { createContainerState, type BoxDriverOptions } from './box/container-state.ts';
import { statsOf } from './box/stats.ts';
import { createBox, reattachBox, removeBox, startBox, stopBox } from './box/lifecycle.ts';
import { toolsInBox } from './paths.ts';

/**
 * The time of /bin/true in the worker when the OCI runtime starts it: 9.9 + 2.5 ms (docs/performance.md). hold.ts takes
 * it as its first estimate. With the agent, commands are shorter, and the estimate soon follows.
 */
const shortExecMs = 12;

export function createBoxDriver(context: DriverContext, options: BoxDriverOptions): Driver {
  const container = createContainerState(context, options);
  return {
    shortExecMs,
    busyboxPath: `${toolsInBox}/busybox`,
    agentPath: `${toolsInBox}/agent`,
    outputIsExact: true,
    takesSockets: true,
    get agentUse() {
      return container.isRunning ? container.needRunning().exec.agent.use : null;
    },
    async prepareImage(progress, signal) {
      await container.preparer.prepare(context.spec.image, progress, signal);
    },
    create: (progress, signal) => createBox(container, progress, signal),
    start: (progress, signal) => startBox(container, progress, signal),
    reattach: () => reattachBox(container),
    exec: (request) => execInBox(container, request),
    foundExecs: async () => foundExecs(container),
    heldExecs: async () => heldExecs(container),
    resumeExec: (execId, committed) => resumeExec(container, execId, committed),
    killStrayExecs: (finished, kept) => killStrayExecs(container, finished, kept),
    stop: (graceMs) => stopBox(container, graceMs),
    remove: (graceMs) => removeBox(container, graceMs),
    async metrics() {
      container.needRunning();
      return container.cgroups.usage();
    },
    stats: () => statsOf(container),
    async close() {
      container.release();
    },
  };
}
