// The container driver as the worker sees it: one driver value holds one box on a given OCI runtime. This file only
// composes. lifecycle.ts has the life of the box, exec/commands.ts its commands, and held-box.ts what both share.
import type { Driver, DriverContext } from '../driver-contract.ts';
import { execInBox, foundExecs, killStrayExecs } from './exec/commands.ts';
import { statsOf } from './box/stats.ts';
import { createHeldBox, type BoxDriverOptions } from './box/held-box.ts';
import { createBox, reattachBox, removeBox, startBox, stopBox } from './box/lifecycle.ts';
import { toolsInBox } from './paths.ts';

const shortExecMs = 12;

export function createBoxDriver(context: DriverContext, options: BoxDriverOptions): Driver {
  const held = createHeldBox(context, options);
  return {
    shortExecMs,
    busyboxPath: `${toolsInBox}/busybox`,
    outputIsExact: true,
    async prepareImage(progress, signal) {
      await held.preparer.prepare(context.spec.image, progress, signal);
    },
    create: (progress, signal) => createBox(held, progress, signal),
    start: (progress, signal) => startBox(held, progress, signal),
    reattach: () => reattachBox(held),
    exec: (request) => execInBox(held, request),
    foundExecs: async () => foundExecs(held),
    killStrayExecs: (finished) => killStrayExecs(held, finished),
    stop: (graceMs) => stopBox(held, graceMs),
    remove: (graceMs) => removeBox(held, graceMs),
    async metrics() {
      held.needRunning();
      return held.cgroups.usage();
    },
    stats: () => statsOf(held),
    async close() {
      held.release();
    },
  };
}
