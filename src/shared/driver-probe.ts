// Whether a driver works on this host, found out by a worker that really tries it: only a VM that boots is proof.
// Asked by `serve` before it starts and by `doctor`; the answer of a slow try is kept for this boot of the host.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Type, type Static } from 'typebox';
import { type Config } from './config.ts';
import { statePaths } from './state-dir.ts';
import { errorText } from './errors.ts';
import { fits } from './ipc/contract.ts';
import { startOwnProcess } from './own-process.ts';

const ProbeResult = Type.Object({
  ok: Type.Boolean(),
  /** What is wrong, each with what to do about it. */
  problems: Type.Array(Type.String()),
});
export type ProbeResult = Static<typeof ProbeResult>;

const KeptProbe = Type.Object({ key: Type.String(), result: ProbeResult });
const probeTimeoutMs = 90_000;

/**
 * Tries the driver of `config`. `fresh` ignores a kept answer. Only good answers are kept: what was wrong may have been mended.
 * The state directory must exist.
 */
export async function probeDriver(config: Config, options: { fresh?: boolean } = {}): Promise<ProbeResult> {
  const { probeFile, logsDir } = statePaths(config.stateDir);
  const bootId = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => 'unknown');
  const key = `${config.driver} ${bootId.trim()} ${import.meta.url}`;
  const kept = await readKept(probeFile);
  if (!options.fresh && kept?.key === key) return kept.result;
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
    if (result.ok) await writeFile(probeFile, JSON.stringify({ key, result }), { mode: 0o600 });
    return result;
  } catch (error) {
    return { ok: false, problems: [`trying the ${config.driver} driver failed: ${errorText(error)}`] };
  } finally {
    worker.child.kill('SIGKILL');
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
