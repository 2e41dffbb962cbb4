// Probes whether a driver works on this host. A worker really starts the engine, because only a VM that boots is a
// proof. The state directory keeps the result as long as everything that it depends on is unchanged.
import { readFile, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { release } from 'node:os';
import { join } from 'node:path';
import { Type, type Static } from 'typebox';
import type { Config, DriverName } from '../settings/config.ts';
import { probeFileOf, statePaths } from '../settings/state-dir.ts';
import { errorText } from '../errors.ts';
import { fits } from '../ipc/contract.ts';
import { startOwnProcess } from '../process/own-process.ts';

const ProbeResult = Type.Object({
  ok: Type.Boolean(),
  /** Each text says what is wrong and what the user can do. */
  problems: Type.Array(Type.String()),
});
export type ProbeResult = Static<typeof ProbeResult>;

const KeptProbe = Type.Object({ key: Type.String(), result: ProbeResult });
const probeTimeoutMs = 90_000;

/**
 * Probes the driver of `config`, or returns the kept result. The state directory must exist. It never throws for a
 * driver that does not work.
 *
 * @param options.fresh true: probes again even if there is a kept result
 * @returns the result, and whether it is from an earlier probe
 */
export async function probeDriver(
  config: Config,
  options: { readonly fresh?: boolean } = {},
): Promise<ProbeResult & { readonly isKept: boolean }> {
  const { logsDir } = statePaths(config.stateDir);
  const keptFile = probeFileOf(config.stateDir, config.driver);
  const key = await keyOf(config);
  const kept = options.fresh === true ? null : await readKept(keptFile);
  if (kept?.key === key) return { ...kept.result, isKept: true };
  const worker = startOwnProcess({
    orders: { role: 'worker', config, workerId: null }, // Without an id, the worker only probes.
    logFile: join(logsDir, 'probe.log'),
    readyMs: probeTimeoutMs,
    detached: false,
    env: process.env,
  });
  try {
    const facts = await worker.ready;
    if (!fits(ProbeResult, facts)) throw new Error('the answer of the worker does not fit');
    const result = facts as ProbeResult;
    if (isWorthKeeping(config.driver, result))
      await writeFile(keptFile, JSON.stringify({ key, result }), { mode: 0o600 });
    return { ...result, isKept: false };
  } catch (error) {
    return { ok: false, problems: [`trying the ${config.driver} driver failed: ${errorText(error)}`], isKept: false };
  } finally {
    worker.child.kill('SIGKILL');
  }
}

/**
 * A failed container probe is not kept: usually a program is missing, the user can install it in a minute, and the
 * probe is fast. The probe of a VM that does not boot takes up to 20 s, and its result changes only together with the
 * key.
 */
function isWorthKeeping(driver: DriverName, { ok }: ProbeResult): boolean {
  return ok || driver === 'boxlite';
}

/**
 * Everything that a result depends on: the place of this program, the boot of the host, the engine and the directory of
 * its programs, and the right to use KVM.
 */
async function keyOf({ driver, boxliteRuntimeDir }: Config): Promise<string> {
  const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown');
  const parts: unknown[] = [driver, bootId.trim(), import.meta.url];
  if (driver === 'boxlite') {
    const kvm = await stat('/dev/kvm').then(
      ({ uid, gid, mode }) => [uid, gid, mode],
      () => null,
    );
    const rights = [kvm, process.getuid?.() ?? null, process.getgroups?.() ?? null];
    parts.push(release(), engineVersion(), boxliteRuntimeDir, ...rights);
  }
  return JSON.stringify(parts);
}

function engineVersion(): string | null {
  try {
    return (createRequire(import.meta.url)('@boxlite-ai/boxlite/package.json') as { version: string }).version;
  } catch {
    return null; // The package is not installed, or it does not export its version.
  }
}

async function readKept(path: string): Promise<Static<typeof KeptProbe> | null> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'));
    return fits(KeptProbe, value) ? (value as Static<typeof KeptProbe>) : null;
  } catch {
    return null; // There is no result yet, or it has the form of another version.
  }
}
