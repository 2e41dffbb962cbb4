// Whether a driver works on this host. A worker really tries the engine, because only a VM that boots is a proof.
// An answer that takes long to find is kept in the state directory, as long as nothing changes on which it depends.
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
  /** What is wrong, each with what to do about it. */
  problems: Type.Array(Type.String()),
});
export type ProbeResult = Static<typeof ProbeResult>;

const KeptProbe = Type.Object({ key: Type.String(), result: ProbeResult });
const probeTimeoutMs = 90_000;

/**
 * Tries the driver of `config`, or gives the kept answer. The state directory must exist.
 *
 * @param options.fresh tries again, whatever is kept
 * @returns the answer, and whether it was kept from an earlier try
 */
export async function probeDriver(
  config: Config,
  options: { readonly fresh?: boolean } = {},
): Promise<ProbeResult & { readonly isKept: boolean }> {
  const { logsDir } = statePaths(config.stateDir);
  const keptFile = probeFileOf(config.stateDir, config.driver);
  const key = await keyOf(config.driver);
  const kept = options.fresh === true ? null : await readKept(keptFile);
  if (kept?.key === key) return { ...kept.result, isKept: true };
  const worker = startOwnProcess({
    orders: { role: 'worker', config, workerId: null },
    logFile: join(logsDir, 'probe.log'),
    readyMs: probeTimeoutMs,
    detached: false,
    env: process.env,
  });
  try {
    const facts = await worker.ready;
    if (!fits(ProbeResult, facts)) throw new Error('its answer does not fit');
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
 * A container driver that does not work lacks a program, which the user installs in a minute, and it answers at once. A
 * VM that does not boot takes up to 20 s, and boots only after something has changed that is part of the key.
 */
function isWorthKeeping(driver: DriverName, { ok }: ProbeResult): boolean {
  return ok || driver === 'boxlite';
}

/** Everything on which an answer depends: the program, the boot of the host, the engine, and the right to use KVM. */
async function keyOf(driver: DriverName): Promise<string> {
  const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown');
  const parts: unknown[] = [driver, bootId.trim(), import.meta.url];
  if (driver === 'boxlite') {
    const kvm = await stat('/dev/kvm').then(
      ({ uid, gid, mode }) => [uid, gid, mode],
      () => null,
    );
    parts.push(release(), engineVersion(), kvm, process.getuid?.() ?? null, process.getgroups?.() ?? null);
  }
  return JSON.stringify(parts);
}

function engineVersion(): string | null {
  try {
    return (createRequire(import.meta.url)('@boxlite-ai/boxlite/package.json') as { version: string }).version;
  } catch {
    return null; // Not installed, or it does not show its version.
  }
}

async function readKept(path: string): Promise<Static<typeof KeptProbe> | null> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'));
    return fits(KeptProbe, value) ? (value as Static<typeof KeptProbe>) : null;
  } catch {
    return null; // None yet, or one of another version.
  }
}
