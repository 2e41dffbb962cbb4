// The container driver as the worker sees it: one value holds one box on an OCI runtime that the caller chose. Only
// composition: the life of the box is in lifecycle.ts, its commands in commands.ts, what both share in holding.ts.
import type { Driver, DriverContext } from '../../driver-contract.ts';
import { execInBox, foundExecs, killStrayExecs, needRunning } from '../exec/commands.ts';
import { createHolding, release, type BoxDriverOptions } from './holding.ts';
import { createBox, reattachBox, removeBox, startBox, stopBox } from './lifecycle.ts';
import { toolsInBox } from './paths.ts';

const shortExecMs = 12;

export function createBoxDriver(context: DriverContext, options: BoxDriverOptions): Driver {
  const holding = createHolding(context, options);
  return {
    shortExecMs,
    busyboxPath: `${toolsInBox}/busybox`,
    outputIsExact: true,
    async prepareImage(progress, signal) {
      await holding.preparer.prepare(context.spec.image, progress, signal);
    },
    create: (progress, signal) => createBox(holding, progress, signal),
    start: (progress, signal) => startBox(holding, progress, signal),
    reattach: () => reattachBox(holding),
    exec: (request) => execInBox(holding, request),
    foundExecs: async () => foundExecs(holding),
    killStrayExecs: (finished) => killStrayExecs(holding, finished),
    stop: (graceMs) => stopBox(holding, graceMs),
    remove: (graceMs) => removeBox(holding, graceMs),
    async metrics() {
      needRunning(holding);
      return holding.cgroups.usage();
    },
    async close() {
      if (holding.running !== null) release(holding, holding.running);
    },
  };
}
