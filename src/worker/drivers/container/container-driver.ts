// Entry of the container driver. A box is a container of an OCI runtime from the distribution, for hosts whose KVM
// cannot start a micro-VM. The worker loads this file only when this driver is configured.
import type { AgentMode } from '../../../shared/settings/config.ts';
import type { Driver, DriverContext } from '../driver-contract.ts';
import { makeFifosAhead } from './host/ahead.ts';
import { createBoxDriver } from './container-box.ts';
import { tryRuntime } from './host/host-probe.ts';
import { chooseRuntime } from './host/runtime.ts';
import { ensureBoxTools } from './host/tools.ts';

export { probeContainerHost, type ContainerHostReport } from './host/host-probe.ts';

interface ContainerDriverOptions {
  /** Registries that the driver reaches over plain http, as host:port. */
  readonly insecureRegistries: readonly string[];
  readonly agent: AgentMode;
}

/** Makes a driver for one box. The first start on a host tries the OCI runtimes, and later starts use the result. */
export function createContainerDriver(context: DriverContext, options: ContainerDriverOptions): Driver {
  return createBoxDriver(context, {
    ...options,
    runtime: () => chooseRuntime((runtime) => tryRuntime(runtime, context.imagesDir)),
  });
}

/**
 * Does ahead of time what the first box of this process would wait for: FIFOs, tools and the choice of the runtime.
 * A spare worker calls it.
 * @param dir directory of this process, for the FIFOs
 * @throws RUNTIME_ERROR, TIMEOUT
 */
export async function prepareAhead(dir: string, imagesDir: string): Promise<void> {
  await Promise.all([
    makeFifosAhead(dir),
    ensureBoxTools(imagesDir),
    chooseRuntime((runtime) => tryRuntime(runtime, imagesDir)),
  ]);
}
