// Entry of the container driver, for hosts without usable KVM: boxes as containers of an OCI runtime from the
// distribution. Loaded by the worker when it is configured; the probe is for `serve` and `doctor`.
import type { RunnerMode } from '../../../shared/settings/config.ts';
import type { Driver, DriverContext } from '../driver-contract.ts';
import { makeFifosAhead } from './exec/ahead.ts';
import { createBoxDriver } from './box/container-box.ts';
import { tryRuntime } from './host/host-probe.ts';
import { chooseRuntime } from './host/runtime.ts';
import { ensureBoxTools } from './host/tools.ts';

export { probeContainerHost, type ContainerHostReport } from './host/host-probe.ts';

interface ContainerDriverOptions {
  /** Registries reached over plain http, as host:port. */
  readonly insecureRegistries: readonly string[];
  readonly runner: RunnerMode;
}

/** A driver for one box. The runtime is tried out once per host, on the first start. */
export function createContainerDriver(context: DriverContext, options: ContainerDriverOptions): Driver {
  return createBoxDriver(context, {
    ...options,
    runtime: () => chooseRuntime((runtime) => tryRuntime(runtime, context.imagesDir)),
  });
}

/**
 * What the first box of a process would have to load, find, choose and make, done before there is one.
 * @throws RUNTIME_ERROR, TIMEOUT
 */
export async function prepareAhead(dir: string, imagesDir: string): Promise<void> {
  await Promise.all([
    makeFifosAhead(dir),
    ensureBoxTools(imagesDir),
    chooseRuntime((runtime) => tryRuntime(runtime, imagesDir)),
  ]);
}
