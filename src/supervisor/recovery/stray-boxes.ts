// Ends a box that is on the host but in no database, and moves its home to the directory of lost boxes. A worker does
// it, because only a driver knows how its engine ends. The disk of such a box is never deleted.
import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool } from '../../shared/process/child-process.ts';
import type { Config, DriverName } from '../../shared/settings/config.ts';
import type { Assignment } from '../../shared/contracts/worker.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { boxHome, statePaths } from '../../shared/settings/state-dir.ts';
import type { Trace } from './host-traces.ts';
import type { WarmPool } from '../workers/warm-pool.ts';

export interface StrayDeps {
  readonly config: Config;
  readonly instanceId: string;
  readonly pool: Pick<WarmPool, 'take'>;
  readonly log: Logger;
}

export interface StrayBox {
  readonly boxId: string;
  readonly driver: DriverName;
  /** The home is there, and bears the mark of this database. */
  readonly hasHome: boolean;
  readonly traces: readonly Trace[];
}

const toolMs = 10_000;

/** @throws the error that keeps the box from its end; the call may be repeated */
export async function endStray(
  { config, instanceId, pool, log }: StrayDeps,
  { boxId, driver, hasHome, traces }: StrayBox,
): Promise<void> {
  await releaseDisk(traces);
  const worker = await pool.take();
  try {
    await worker.peer.request('assign', strayAssignment(boxId, driver, instanceId));
    await worker.peer.request('stop', {});
    faultPoint('supervisor.reconcile.ended');
    if (hasHome) {
      const aside = await setAside(config.stateDir, boxId);
      log.warn({ boxId, aside }, 'the home of a box that is in no database is set aside');
    }
    faultPoint('supervisor.reconcile.set-aside');
    // The home is out of the way, so this removes only what the engine keeps elsewhere on the host.
    await worker.peer.request('remove', {});
  } finally {
    await worker.stop();
  }
}

/**
 * Unmounts what the host has mounted in a home, the innermost mount first, and detaches the loop devices. A mount or
 * loop device that is still in use disappears when its last user ends.
 */
export async function releaseDisk(traces: readonly Trace[]): Promise<void> {
  const of = (kind: Trace['kind']) =>
    traces
      .filter((trace) => trace.kind === kind)
      .map(({ what }) => what)
      .sort()
      .reverse();
  for (const path of of('mount')) await runOrThrow('umount', ['--lazy', path]);
  for (const device of of('loop')) await runOrThrow('losetup', ['--detach', device]);
}

async function runOrThrow(tool: string, args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await runTool(tool, args, { timeoutMs: toolMs });
  if (exitCode !== 0) throw new BoxRunError('RUNTIME_ERROR', `${tool} ${args.join(' ')} failed: ${stderr.trim()}`);
}

async function setAside(stateDir: string, boxId: string): Promise<string> {
  const { lostDir } = statePaths(stateDir);
  const aside = join(lostDir, `${boxId}-${Date.now()}`);
  await mkdir(lostDir, { recursive: true, mode: 0o700 });
  await rename(boxHome(stateDir, boxId), aside);
  return aside;
}

/** An assignment for a worker that only ends a box. Only the ids and the driver count; the rest are placeholders. */
function strayAssignment(boxId: string, driver: DriverName, instanceId: string): Assignment {
  return {
    boxId,
    driver,
    instanceId,
    generation: 0,
    image: { kind: 'registry', reference: 'none' },
    cpu: 1,
    memoryMb: 1,
    diskSizeGb: 1,
    network: false,
    workdir: '/',
    env: {},
    volumes: [],
    engineId: null,
  };
}
