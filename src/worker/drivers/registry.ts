// The drivers by name. The code of an engine is loaded only in a worker that uses this engine.
// Only this file and the probe choose between engines.
import type { Config, DriverName } from '../../shared/settings/config.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import type { Driver, DriverContext } from './driver-contract.ts';

/**
 * Makes the driver of one box.
 * @throws RUNTIME_ERROR when the engine cannot be loaded on this host
 */
export async function createDriver(name: DriverName, config: Config, context: DriverContext): Promise<Driver> {
  const { insecureRegistries } = config;
  if (name === 'container') {
    const { createContainerDriver } = await import('./container/container-driver.ts');
    return createContainerDriver(context, { insecureRegistries, agent: config.agent });
  }
  const { createBoxliteDriver } = await import('./boxlite/boxlite-driver.ts');
  return createBoxliteDriver(context, {
    insecureRegistries,
    runtimeDir: config.boxliteRuntimeDir,
    agent: config.agent,
  });
}

/**
 * Loads the engine before the worker has a box. The container driver also puts files into `dir` that every box needs;
 * BoxLite does not use `dir`.
 * @throws RUNTIME_ERROR when this fails; then the driver tries the same work again for the box, and reports the error
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
