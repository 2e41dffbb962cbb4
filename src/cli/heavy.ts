// The large parts of the program that only a few commands need: the server, probes of engines, images, debug bundles.
// This file is a separate bundle, so that the other commands do not load it.
export { packBundle } from './server/debug-bundle.ts';
export { serverProcesses, stopServer } from './server/server-processes.ts';
export { uninstall } from './server/uninstall.ts';
export { imageNames } from './server/image-names.ts';
export { runKeeper } from '../keeper/main.ts';
export { probeDriver } from '../shared/host/driver-probe.ts';
export { importImage } from '../shared/images/import.ts';
export { knownImages, removeImage } from '../shared/images/store.ts';
export { testLeaving } from '../shared/host/service-group.ts';
export { tellReady } from '../shared/host/systemd.ts';
