// Sweeps over the host, the database and the supervisor's own knowledge: what is found wrong in two sweeps in a row is
// said, counted and set right, so many things a sweep. disorder.ts knows what can be wrong; here is only when something
// is done about it, and for how long.
import type { Counter, Gauge } from 'prom-client';
import { sleep, withDeadline } from '../../shared/waiting/clock.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { Meters } from '../../shared/observe/metrics.ts';

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
  /** The same in every sweep, for as long as it is the same trouble. */
  readonly key: string;
  readonly cause: string;
  readonly things: readonly { readonly kind: FindingKind; readonly what: string }[];
  readonly boxId?: string;
  /** Sets it right, if it is still so. Null: it is somebody else's, and left as it is. */
  readonly settle: (() => Promise<void>) | null;
}

export interface ReconciliationDeps {
  readonly look: () => Promise<readonly Finding[]>;
  readonly meters: Pick<Meters, 'counter' | 'gauge'>;
  readonly log: Logger;
}

export interface Reconciliation {
  /** Sweeps at once, and then `everyMs` after the end of each sweep, until it is closed. */
  start(everyMs: number): void;
  sweep(): Promise<void>;
  /** Resolves when what is under way has ended, or after limits.workerExitMs. */
  close(): Promise<void>;
}

export function createReconciliation({ look, meters, log }: ReconciliationDeps): Reconciliation {
  const figures = createFigures(meters);
  const closing = new AbortController();
  let sightings = new Map<string, number>();
  /** Past its deadline it goes on, and is not begun again meanwhile. */
  const underWay = new Set<string>();
  let running: Promise<void> = Promise.resolve();

  async function sweep(): Promise<void> {
    const findings = (await withDeadline(look(), limits.reconcileStepMs, 'looking at the host')).slice(
      0,
      limits.reconcileFoundMax,
    );
    const before = sightings;
    sightings = new Map(findings.map(({ key }) => [key, (before.get(key) ?? 0) + 1]));
    figures.sweeps.inc();
    figures.left.set(findings.filter(({ settle }) => settle === null).length);
    const times = ({ key }: Finding) => sightings.get(key) ?? 0;
    findings.filter((finding) => times(finding) === 2).forEach(tell);
    const due = findings.filter((finding) => times(finding) >= 2 && !underWay.has(finding.key));
    for (const finding of due.filter(({ settle: act }) => act !== null).slice(0, limits.reconcileStepsMax)) {
      if (!closing.signal.aborted) await settle(finding);
    }
  }

  function tell({ things, cause, boxId, settle: act }: Finding): void {
    for (const { kind, what } of things) {
      figures.found.inc({ kind });
      log.warn({ kind, what, boxId, cause, isLeft: act === null }, 'found by reconciliation');
    }
  }

  async function settle({ key, things, boxId, cause, settle: act }: Finding): Promise<void> {
    if (act === null) return;
    const kinds = things.map(({ kind }) => kind);
    try {
      underWay.add(key);
      const acting = act().finally(() => underWay.delete(key));
      await withDeadline(acting, limits.reconcileStepMs, 'setting it right');
      for (const kind of kinds) figures.settled.inc({ kind });
      log.info({ key, boxId, cause }, 'reconciliation has set it right');
    } catch (error) {
      for (const kind of kinds) figures.failed.inc({ kind });
      log.error({ err: error, key, boxId, cause }, 'reconciliation could not set it right yet');
    }
  }

  async function sweepOn(everyMs: number): Promise<void> {
    while (!closing.signal.aborted) {
      await sweep().catch((error: unknown) => {
        log.error({ err: error }, 'a sweep of the reconciliation failed');
      });
      await sleep(everyMs, closing.signal);
    }
  }

  return {
    start(everyMs) {
      running = sweepOn(everyMs);
    },
    sweep,
    async close() {
      closing.abort();
      // The next supervisor goes on with it.
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
