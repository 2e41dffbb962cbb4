// The probe of the engine on this host, in a worker process without a box. It only returns the result; main.ts sends it
// in the ready line of the process.
import { type Config } from '../shared/settings/config.ts';
import { statePaths } from '../shared/settings/state-dir.ts';
import type { ProbeResult } from '../shared/host/driver-probe.ts';
import { errorText } from '../shared/errors.ts';

/** Never throws: each error becomes a text in `problems`. */
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
      agent: 'off', // The probe asks for the engine's own work only.
    });
    return { ok, problems: problem === null ? [] : [problem] };
  } catch (error) {
    return { ok: false, problems: [errorText(error)] };
  }
}
