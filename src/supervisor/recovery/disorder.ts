// Finds all differences between the host, the database and this supervisor, with a repair for each: boxes without a
// row, rows for which this supervisor has no box object, boxes that differ from their rows, and files of dead
// processes. Only finds: it repairs nothing by itself.
import type { Config } from '../../shared/settings/config.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import type { Reader } from '../../shared/store/reader.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import type { BoxRegistry } from '../boxes/box-registry.ts';
import { findTraces, type HostTraces, type Trace } from './host-traces.ts';
import type { Quota } from '../admission/quota.ts';
import { resumeBox, type RecoveryDeps } from './recovery.ts';
import type { Finding } from './reconciliation.ts';
import { endStray, releaseDisk } from './stray-boxes.ts';
import {
  endStrayWorker,
  findStrayWorkers,
  findUnfinishedFiles,
  removeUnfinishedFile,
  socketDirs,
  type OwnWorkers,
} from './stray-files.ts';
import type { WarmPool } from '../workers/warm-pool.ts';

export interface DisorderDeps {
  readonly config: Config;
  readonly instanceId: string;
  readonly reader: Pick<Reader, 'boxRows' | 'boxesWithRunningRows'>;
  readonly registry: BoxRegistry;
  readonly quota: Quota;
  readonly pool: Pick<WarmPool, 'take'>;
  readonly workers: OwnWorkers;
  readonly supervise: RecoveryDeps['supervise'];
  readonly log: Logger;
}

/**
 * Looks at the host before it reads the rows. A row is committed before its box appears on the host, so each box that
 * is found has a row, or has had one.
 */
export async function findDisorder(deps: DisorderDeps): Promise<Finding[]> {
  const { config, instanceId } = deps;
  const host = await findTraces({ boxesDir: statePaths(config.stateDir).boxesDir, instanceId });
  const tracesByBox = new Map<string, Trace[]>();
  for (const trace of host.traces) tracesByBox.set(trace.boxId, [...(tracesByBox.get(trace.boxId) ?? []), trace]);
  const files = await findFiles(deps);
  const rows = new Map(deps.reader.boxRows().map((row) => [row.id, row]));
  return [
    ...findStrays(deps, host, tracesByBox, rows),
    ...findMismatches(deps, rows),
    ...(await findTroubles(deps, tracesByBox, rows)),
    ...files,
  ];
}

/** Boxes on the host that are in no database. They are ended only if they bear the mark of this database. */
function findStrays(
  deps: DisorderDeps,
  { owners }: HostTraces,
  tracesByBox: ReadonlyMap<string, Trace[]>,
  rows: ReadonlyMap<string, BoxRow>,
): Finding[] {
  const { registry, instanceId, reader } = deps;
  const isStray = (boxId: string) => !rows.has(boxId) && !registry.knows(boxId);
  return [...tracesByBox]
    .filter(([boxId]) => isStray(boxId))
    .map(([boxId, traces]): Finding => {
      const owner = owners.get(boxId);
      const isOurs = owner?.instanceId === instanceId;
      const hasHome = traces.some(({ kind }) => kind === 'home');
      // The path of a control group contains the mark of this database. All other traces belong to the home.
      const mayEnd = hasHome ? isOurs : traces.some(({ kind }) => kind === 'cgroup');
      return {
        key: `stray ${boxId}`,
        boxId,
        things: traces,
        cause: mayEnd
          ? 'its box is in no database'
          : 'its box is in no database, and nothing says that it was in this one',
        repair: !mayEnd
          ? null
          : async () => {
              if (registry.knows(boxId) || reader.boxRows().some(({ id }) => id === boxId)) return;
              // Without an owner there is only a control group, and only containers have one.
              await endStray(deps, { boxId, traces, hasHome, driver: owner?.driver ?? 'container' });
            },
      };
    });
}

/** Rows that no box of this supervisor belongs to, and boxes of this supervisor whose row is gone. */
function findMismatches(deps: DisorderDeps, rows: ReadonlyMap<string, BoxRow>): Finding[] {
  const { registry, reader } = deps;
  const unknown = [...rows.values()]
    .filter(({ id }) => !registry.knows(id))
    .map(({ id, state }): Finding => ({
      key: `row ${id}`,
      boxId: id,
      cause: `the supervisor has no box for this row, which says ${state}`,
      things: [{ kind: 'row', what: id }],
      async repair() {
        const row = reader.boxRows().find((each) => each.id === id);
        if (row !== undefined && !registry.knows(id)) await resumeBox(deps, row, null);
      },
    }));
  const ghosts = registry
    .all()
    .filter(({ id, state }) => !rows.has(id) && state !== 'removed')
    .map((box): Finding => ({
      key: `box ${box.id}`,
      boxId: box.id,
      cause: 'its row is gone, but its name and its place are still taken',
      things: [{ kind: 'box', what: box.id }],
      async repair() {
        if (!reader.boxRows().some(({ id }) => id === box.id)) await box.release();
      },
    }));
  return [...unknown, ...ghosts];
}

/** Boxes that differ from their rows. */
async function findTroubles(
  { registry, reader }: DisorderDeps,
  tracesByBox: ReadonlyMap<string, Trace[]>,
  rows: ReadonlyMap<string, BoxRow>,
): Promise<Finding[]> {
  const withRunningRows = new Set(reader.boxesWithRunningRows());
  const findings: Finding[] = [];
  for (const box of registry.all().filter(({ id }) => rows.has(id))) {
    const outside = (tracesByBox.get(box.id) ?? []).filter(({ kind }) => kind !== 'home');
    const view = { isOnHost: outside.length > 0, hasRunningRows: withRunningRows.has(box.id) };
    const trouble = await box.findTrouble(view);
    if (trouble === null) continue;
    const { kind, cause, state, generation } = trouble;
    findings.push({
      key: `${kind} ${box.id} ${state} ${generation}`,
      boxId: box.id,
      cause,
      things: [{ kind, what: [box.id, ...outside.map(({ what }) => what)].join(' ') }],
      async repair() {
        if (box.state === 'stopped' || box.state === 'failed') await releaseDisk(outside);
        await box.repair(trouble);
      },
    });
  }
  return findings;
}

/** Files of dead processes. */
async function findFiles({ config, workers }: DisorderDeps): Promise<Finding[]> {
  const { runDir, workersDir, spillDir } = statePaths(config.stateDir);
  const places = { workersDir, unfinishedDirs: [...socketDirs(runDir, config.socketPath), spillDir] };
  const strays = (await findStrayWorkers(places, workers)).map((id): Finding => ({
    key: `worker ${id}`,
    cause: 'the files belong to no worker of this supervisor',
    things: [{ kind: 'worker-file', what: id }],
    repair: () => endStrayWorker(places, workers, id),
  }));
  const unfinished = (await findUnfinishedFiles(places)).map((path): Finding => ({
    key: `unfinished ${path}`,
    cause: 'the process that made the file has ended',
    things: [{ kind: 'unnamed-file', what: path }],
    repair: () => removeUnfinishedFile(path),
  }));
  return [...strays, ...unfinished];
}
