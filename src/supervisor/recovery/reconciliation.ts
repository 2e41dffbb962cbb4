// Runs the sweeps of reconciliation, decides which findings are repaired now, and gives each repair a deadline. A
// finding is logged, counted and repaired only after two sweeps in a row have found it: before that it may be a change
// that is under way.
import type { Counter, Gauge } from 'prom-client';
import { sleep, withDeadline } from '../../shared/waiting/clock.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { Meters } from '../../shared/observe/metrics.ts';

/**
 * What a finding is about.
 * - home, cgroup, process, mount, loop: something on the host of a box that is in no database
 * - worker-file: files of a worker that does not belong to this supervisor
 * - unnamed-file: a socket or a spill that a dead process left under its temporary name
 * - row: a row for which this supervisor has no box object
 * - box: a box object whose row is gone
 * - worker, engine, commands: a box differs from its row (box-trouble.ts)
 */
export const findingKinds = [
  'home',
  'cgroup',
  'process',
  'mount',
  'loop',
  'worker-file',
  'unnamed-file',
  'row',
  'box',
  'worker',
  'engine',
  'commands',
] as const;
export type FindingKind = (typeof findingKinds)[number];

export interface Finding {
  /** The same in every sweep while it is the same trouble. */
  readonly key: string;
  /** For the log. */
  readonly cause: string;
  readonly things: readonly { readonly kind: FindingKind; readonly what: string }[];
  readonly boxId?: string;
  /** Repairs the trouble, if it still exists. Null: the things may belong to another server, so they are left alone. */
  readonly repair: (() => Promise<void>) | null;
}

export interface ReconciliationDeps {
  /** Finds everything that is wrong now. */
  readonly look: () => Promise<readonly Finding[]>;
  readonly meters: Pick<Meters, 'counter' | 'gauge'>;
  readonly log: Logger;
}

export interface Reconciliation {
  /** Sweeps now, and again `everyMs` milliseconds after the end of each sweep, until it is closed. */
  start(everyMs: number): void;
  /** Makes one sweep. */
  sweep(): Promise<void>;
  /** Begins no more repairs. Resolves when the present sweep has ended, or after limits.workerExitMs. */
  close(): Promise<void>;
}

export function createReconciliation({ look, meters, log }: ReconciliationDeps): Reconciliation {
  const figures = createFigures(meters);
  const closing = new AbortController();
  let sightings = new Map<string, number>();
  /** Keys of repairs that have not ended. After its deadline a repair still goes on, and must not be started twice. */
  const underWay = new Set<string>();
  let running: Promise<void> = Promise.resolve();

  async function sweep(): Promise<void> {
    const findings = (await withDeadline(look(), limits.reconcileStepMs, 'looking at the host')).slice(
      0,
      limits.reconcileFoundMax,
    );
    const earlier = sightings;
    sightings = new Map(findings.map(({ key }) => [key, (earlier.get(key) ?? 0) + 1]));
    figures.sweeps.inc();
    figures.left.set(findings.filter(({ repair }) => repair === null).length);
    const times = ({ key }: Finding) => sightings.get(key) ?? 0;
    findings.filter((finding) => times(finding) === 2).forEach(report);
    const due = findings.filter((finding) => times(finding) >= 2 && !underWay.has(finding.key));
    for (const finding of due.filter(({ repair }) => repair !== null).slice(0, limits.reconcileStepsMax)) {
      if (!closing.signal.aborted) await runRepair(finding);
    }
  }

  function report({ things, cause, boxId, repair }: Finding): void {
    for (const { kind, what } of things) {
      figures.found.inc({ kind });
      log.warn({ kind, what, boxId, cause, isLeft: repair === null }, 'found by reconciliation');
    }
  }

  async function runRepair({ key, things, boxId, cause, repair }: Finding): Promise<void> {
    if (repair === null) return;
    const kinds = things.map(({ kind }) => kind);
    try {
      underWay.add(key);
      const repairing = repair().finally(() => underWay.delete(key));
      await withDeadline(repairing, limits.reconcileStepMs, 'repairing it');
      for (const kind of kinds) figures.settled.inc({ kind });
      log.info({ key, boxId, cause }, 'reconciliation has repaired it');
    } catch (error) {
      for (const kind of kinds) figures.failed.inc({ kind });
      log.error({ err: error, key, boxId, cause }, 'reconciliation could not repair it yet');
    }
  }

  async function sweepRepeatedly(everyMs: number): Promise<void> {
    while (!closing.signal.aborted) {
      await sweep().catch((error: unknown) => {
        log.error({ err: error }, 'a sweep of the reconciliation failed');
      });
      await sleep(everyMs, closing.signal);
    }
  }

  return {
    start(everyMs) {
      running = sweepRepeatedly(everyMs);
    },
    sweep,
    async close() {
      closing.abort();
      // If the sweep takes longer, the next supervisor repairs the rest.
      await withDeadline(running, limits.workerExitMs, 'the last sweep').catch(() => undefined);
    },
  };
}

interface Figures {
  readonly sweeps: Counter;
  readonly left: Gauge;
  readonly found: Counter<'kind'>;
  readonly settled: Counter<'kind'>;
  readonly failed: Counter<'kind'>;
}

function createFigures(meters: ReconciliationDeps['meters']): Figures {
  const byKind = (name: string, help: string) => {
    const counter = meters.counter(name, help, ['kind']);
    for (const kind of findingKinds) counter.inc({ kind }, 0);
    return counter;
  };
  return {
    sweeps: meters.counter('reconcile_sweeps_total', 'Comparisons of the host with the database.'),
    left: meters.gauge(
      'reconcile_left',
      'Things of boxes that are in no database and bear no mark of this one: left as they are.',
    ),
    found: byKind('reconcile_found_total', 'Things that two sweeps in a row found wrong.'),
    settled: byKind('reconcile_settled_total', 'Things that were set right.'),
    failed: byKind('reconcile_failed_total', 'Attempts to set things right that failed; they are made again.'),
  };
}
