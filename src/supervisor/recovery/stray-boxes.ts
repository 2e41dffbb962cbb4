// Ends what is on the host of a box that is in no database, and sets its home aside: only what bears the mark of this
// database, and by a worker, which knows how its engine ends. Called by disorder.ts for what was found twice. No disk
// is ever deleted.
import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool } from '../../shared/process/child-process.ts';
import type { Config, DriverName } from '../../shared/settings/config.ts';
import type { Assignment } from '../../shared/contracts/worker.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import { limits } from '../../shared/limits.ts';
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
  /** Its home is there, and bears the mark of this database. */
  readonly hasHome: boolean;
  readonly traces: readonly Trace[];
}

const toolMs = 10_000;

/** @throws what keeps it from its end; it may be tried again */
export async function endStray(
  { config, instanceId, pool, log }: StrayDeps,
  { boxId, driver, hasHome, traces }: StrayBox,
): Promise<void> {
  await releaseDisk(traces);
  const worker = await pool.take();
  try {
    await worker.peer.request('assign', strayAssignment(boxId, driver, instanceId));
    await worker.peer.request('stop', {}, { timeoutMs: limits.boxStopTimeoutMs });
    faultPoint('supervisor.reconcile.ended');
    if (hasHome) {
      const aside = await setAside(config.stateDir, boxId);
      log.warn({ boxId, aside }, 'the home of a box that is in no database is set aside');
    }
    faultPoint('supervisor.reconcile.set-aside');
    // With the home out of the way: what the engine keeps elsewhere on the host goes.
    await worker.peer.request('remove', {}, { timeoutMs: limits.boxRemoveTimeoutMs });
  } finally {
    await worker.stop();
  }
}

/**
 * Mounts and loop devices that the host has made of something in the home; the innermost first. What is in use goes
 * with its user.
 */
export async function releaseDisk(traces: readonly Trace[]): Promise<void> {
  const of = (kind: Trace['kind']) =>
    traces
      .filter((trace) => trace.kind === kind)
      .map(({ what }) => what)
      .sort()
      .reverse();
  for (const path of of('mount')) await need('umount', ['--lazy', path]);
  for (const device of of('loop')) await need('losetup', ['--detach', device]);
}

async function need(tool: string, args: readonly string[]): Promise<void> {
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

/** For a worker that is to end a box and nothing else: of what it says, only the place counts. */
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
