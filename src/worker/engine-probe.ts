// A worker without a box that tries the engine: what `serve` and `doctor` ask through shared/host/driver-probe.ts.
// Its answer goes out in the ready line; whoever asked ends the process.
import { type Config } from '../shared/settings/config.ts';
import { statePaths } from '../shared/settings/state-dir.ts';
import type { ProbeResult } from '../shared/host/driver-probe.ts';
import { errorText } from '../shared/errors.ts';

/** Never throws: whatever goes wrong is a problem to show. */
export async function probeEngine(config: Config): Promise<ProbeResult> {
  try {
    if (config.driver === 'container') {
      const { probeContainerHost } = await import('./drivers/container/host/host-probe.ts');
      const { ok, problems } = await probeContainerHost(statePaths(config.stateDir).imagesDir);
      return { ok, problems };
    }
    const { probeBoxliteHost } = await import('./drivers/boxlite/vm/vm-probe.ts');
    const { ok, problem } = await probeBoxliteHost(statePaths(config.stateDir).imagesDir, {
      insecureRegistries: config.insecureRegistries,
      runtimeDir: config.boxliteRuntimeDir,
    });
    return { ok, problems: problem === null ? [] : [problem] };
  } catch (error) {
    return { ok: false, problems: [errorText(error)] };
  }
}
