// Which driver a name stands for. Each engine is loaded only in a worker that uses it.
// Called once by box-runner.ts, at the assignment.
import type { Config, DriverName } from '../../shared/config.ts';
import type { Driver, DriverContext } from './driver.ts';

/** Makes the driver of one box; throws RUNTIME_ERROR when the engine cannot be loaded on this host. */
export async function createDriver(name: DriverName, config: Config, context: DriverContext): Promise<Driver> {
  const { insecureRegistries } = config;
  if (name === 'container') {
    const { createContainerDriver } = await import('./container/driver.ts');
    return createContainerDriver(context, { insecureRegistries, runner: config.runner });
  }
  const { createBoxliteDriver } = await import('./boxlite/driver.ts');
  return createBoxliteDriver(context, { insecureRegistries, runtimeDir: config.boxliteRuntimeDir });
}
