// A worker without a box that tries the engine: what `serve` and `doctor` ask through shared/driver-probe.ts.
// Its answer goes out in the ready line; whoever asked ends the process.
import { type Config } from '../shared/config.ts';
import { statePaths } from '../shared/state-dir.ts';
import type { ProbeResult } from '../shared/driver-probe.ts';
import { errorText } from '../shared/errors.ts';

/** Never throws: whatever goes wrong is a problem to show. */
export async function probeEngine(config: Config): Promise<ProbeResult> {
  try {
    if (config.driver === 'container') {
      const { probeContainerHost } = await import('./drivers/container/probe.ts');
      const { ok, problems } = await probeContainerHost(statePaths(config.stateDir).imagesDir);
      return { ok, problems };
    }
    const { probeBoxliteHost } = await import('./drivers/boxlite/probe.ts');
    const { ok, problem } = await probeBoxliteHost(statePaths(config.stateDir).imagesDir, {
      insecureRegistries: config.insecureRegistries,
      runtimeDir: config.boxliteRuntimeDir,
    });
    return { ok, problems: problem === null ? [] : [problem] };
  } catch (error) {
    return { ok: false, problems: [errorText(error)] };
  }
}
