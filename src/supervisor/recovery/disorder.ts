// What can be wrong between the host, the database and this supervisor, and how each is set right: boxes that are in no
// database, rows that nobody looks after, boxes that are not what their rows say, files of processes that are gone.
// Looks only; reconciliation.ts decides.
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
  findUnnamedFiles,
  removeUnnamedFile,
  socketDirs,
  type OwnWorkers,
} from './stray-files.ts';
import type { WarmPool } from '../workers/warm-pool.ts';

export interface DisorderDeps {
  readonly config: Config;
  readonly instanceId: string;
  readonly reader: Pick<Reader, 'boxRows' | 'boxesWithAdriftExecs'>;
  readonly registry: BoxRegistry;
  readonly quota: Quota;
  readonly pool: Pick<WarmPool, 'take'>;
  readonly workers: OwnWorkers;
  readonly supervise: RecoveryDeps['supervise'];
  readonly log: Logger;
}

/** The host first: whatever is there by then has its row, or has had one. */
export async function findDisorder(deps: DisorderDeps): Promise<Finding[]> {
  const { config, instanceId } = deps;
  const host = await findTraces({ boxesDir: statePaths(config.stateDir).boxesDir, instanceId });
  const byBox = new Map<string, Trace[]>();
  for (const trace of host.traces) byBox.set(trace.boxId, [...(byBox.get(trace.boxId) ?? []), trace]);
  const files = await findFiles(deps);
  const rows = new Map(deps.reader.boxRows().map((row) => [row.id, row]));
  return [
    ...findStrays(deps, host, byBox, rows),
    ...findRows(deps, rows),
    ...(await findTroubles(deps, byBox, rows)),
    ...files,
  ];
}

function findStrays(
  deps: DisorderDeps,
  { owners }: HostTraces,
  byBox: ReadonlyMap<string, Trace[]>,
  rows: ReadonlyMap<string, BoxRow>,
): Finding[] {
  const { registry, instanceId, reader } = deps;
  const isStray = (boxId: string) => !rows.has(boxId) && !registry.knows(boxId);
  return [...byBox]
    .filter(([boxId]) => isStray(boxId))
    .map(([boxId, traces]): Finding => {
      const owner = owners.get(boxId);
      const isOurs = owner?.instanceId === instanceId;
      const hasHome = traces.some(({ kind }) => kind === 'home');
      // A control group is found by the mark of this database; all else belongs to the home.
      const mayEnd = hasHome ? isOurs : traces.some(({ kind }) => kind === 'cgroup');
      return {
        key: `stray ${boxId}`,
        boxId,
        things: traces,
        cause: mayEnd
          ? 'its box is in no database'
          : 'its box is in no database, and nothing says that it was in this one',
        settle: !mayEnd
          ? null
          : async () => {
              if (registry.knows(boxId) || reader.boxRows().some(({ id }) => id === boxId)) return;
              // Only containers have control groups of this database.
              await endStray(deps, { boxId, traces, hasHome, driver: owner?.driver ?? 'container' });
            },
      };
    });
}

/** Rows without an owner here, and boxes here without a row. */
function findRows(deps: DisorderDeps, rows: ReadonlyMap<string, BoxRow>): Finding[] {
  const { registry, reader } = deps;
  const unknown = [...rows.values()]
    .filter(({ id }) => !registry.knows(id))
    .map(({ id, state }): Finding => ({
      key: `row ${id}`,
      boxId: id,
      cause: `nobody looks after the row, which says ${state}`,
      things: [{ kind: 'row', what: id }],
      async settle() {
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
      cause: 'its row is gone, and its name and place are taken',
      things: [{ kind: 'box', what: box.id }],
      async settle() {
        if (!reader.boxRows().some(({ id }) => id === box.id)) await box.release();
      },
    }));
  return [...unknown, ...ghosts];
}

async function findTroubles(
  { registry, reader }: DisorderDeps,
  byBox: ReadonlyMap<string, Trace[]>,
  rows: ReadonlyMap<string, BoxRow>,
): Promise<Finding[]> {
  const adrift = new Set(reader.boxesWithAdriftExecs());
  const findings: Finding[] = [];
  for (const box of registry.all().filter(({ id }) => rows.has(id))) {
    const outside = (byBox.get(box.id) ?? []).filter(({ kind }) => kind !== 'home');
    const trouble = await box.findTrouble({ isOnHost: outside.length > 0, hasRunningRows: adrift.has(box.id) });
    if (trouble === null) continue;
    const { kind, cause, state, generation } = trouble;
    findings.push({
      key: `${kind} ${box.id} ${state} ${generation}`,
      boxId: box.id,
      cause,
      things: [{ kind, what: [box.id, ...outside.map(({ what }) => what)].join(' ') }],
      async settle() {
        if (box.state === 'stopped' || box.state === 'failed') await releaseDisk(outside);
        await box.repair(trouble);
      },
    });
  }
  return findings;
}

async function findFiles({ config, workers }: DisorderDeps): Promise<Finding[]> {
  const { runDir, workersDir, spillDir } = statePaths(config.stateDir);
  const places = { workersDir, unnamedDirs: [...socketDirs(runDir, config.socketPath), spillDir] };
  const strays = (await findStrayWorkers(places, workers)).map((id): Finding => ({
    key: `worker ${id}`,
    cause: 'no worker of this supervisor has it',
    things: [{ kind: 'worker-file', what: id }],
    settle: () => endStrayWorker(places, workers, id),
  }));
  const unnamed = (await findUnnamedFiles(places)).map((path): Finding => ({
    key: `unnamed ${path}`,
    cause: 'whoever made it has ended',
    things: [{ kind: 'unnamed-file', what: path }],
    settle: () => removeUnnamedFile(path),
  }));
  return [...strays, ...unnamed];
}
