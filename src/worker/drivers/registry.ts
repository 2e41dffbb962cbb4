// Which driver a name stands for. Each engine is loaded only in a worker that uses it.
// Called by the worker's process.ts before it has a box, and once by box-runner.ts, at the assignment.
import type { Config, DriverName } from '../../shared/settings/config.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import type { Driver, DriverContext } from './driver-contract.ts';

/** Makes the driver of one box; throws RUNTIME_ERROR when the engine cannot be loaded on this host. */
export async function createDriver(name: DriverName, config: Config, context: DriverContext): Promise<Driver> {
  const { insecureRegistries } = config;
  if (name === 'container') {
    const { createContainerDriver } = await import('./container/container-driver.ts');
    return createContainerDriver(context, { insecureRegistries, runner: config.runner });
  }
  const { createBoxliteDriver } = await import('./boxlite/boxlite-driver.ts');
  return createBoxliteDriver(context, { insecureRegistries, runtimeDir: config.boxliteRuntimeDir });
}

/**
 * Loads the engine, and makes in `dir` what a box will need, whichever it is.
 * @throws RUNTIME_ERROR when that does not work; then it is done for the box, or says there what is wrong
 */
export async function prepareAhead(name: DriverName, config: Config, dir: string): Promise<void> {
  if (name === 'container') {
    const { prepareAhead: prepare } = await import('./container/container-driver.ts');
    await prepare(dir, statePaths(config.stateDir).imagesDir);
  } else {
    const { loadEngine } = await import('./boxlite/boxlite-driver.ts');
    await loadEngine(config.boxliteRuntimeDir);
  }
}
