// Group commit: everything that waits goes into one transaction, each sender's change under a savepoint of its own, so
// that a bad one undoes only itself. A change is acknowledged after the commit, never before.
import type { Database } from 'better-sqlite3';
import { BoxRunError } from '../shared/errors.ts';
import { limits } from '../shared/limits.ts';

export interface Batch {
  /**
   * Runs `apply` inside the next group; resolves with its value once that is committed.
   * @throws what `apply` throws (final), or UNAVAILABLE when the database could not commit (to be sent again)
   */
  submit<T>(apply: () => T, operations?: number): Promise<T>;
  readonly figures: { readonly waiting: number; readonly done: number; readonly failed: number };
  /** True after a group could not be committed, until one is. */
  readonly isFailing: boolean;
  /** Resolves when nothing waits any more. */
  idle(): Promise<void>;
}

interface Unit {
  readonly apply: () => unknown;
  readonly operations: number;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

type Outcome = { readonly unit: Unit } & ({ readonly value: unknown } | { readonly error: unknown });

/** SQLite's own troubles (disk full, I/O error, locked by another program) pass; the same change may succeed later. */
function isPassing(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' && /^SQLITE_(FULL|IOERR|BUSY|LOCKED|NOMEM|CANTOPEN|READONLY)/.test(code);
}

function unavailable(error: unknown): BoxRunError {
  return new BoxRunError('UNAVAILABLE', `the database cannot be written: ${String(error)}`, {
    hint: 'free disk space, or close whatever program holds the database',
    cause: error,
  });
}

/** How many of those that wait go into the next group. */
function groupLength(waiting: readonly Unit[]): number {
  let operations = 0;
  let count = 0;
  while (count < waiting.length && operations < limits.groupOpsMax) operations += waiting[count++]?.operations ?? 0;
  return count;
}

function tell(outcome: Outcome): void {
  if ('error' in outcome) outcome.unit.reject(outcome.error);
  else outcome.unit.resolve(outcome.value);
}

export function createBatch(db: Database): Batch {
  const begin = db.prepare('BEGIN IMMEDIATE');
  const commit = db.prepare('COMMIT');
  const rollback = db.prepare('ROLLBACK');
  const savepoint = db.prepare('SAVEPOINT sender');
  const release = db.prepare('RELEASE sender');
  const undo = db.prepare('ROLLBACK TO sender');
  const waiting: Unit[] = [];
  let scheduled = false;
  let failing = false;
  const commits = { done: 0, failed: 0 };
  let idleWaiters: (() => void)[] = [];

  function runUnit(unit: Unit): Outcome {
    savepoint.run();
    try {
      const value = unit.apply();
      release.run();
      return { unit, value };
    } catch (error) {
      if (isPassing(error)) throw error;
      undo.run();
      release.run();
      return { unit, error };
    }
  }

  function runGroup(): void {
    const group = waiting.splice(0, groupLength(waiting));
    let outcomes: Outcome[];
    try {
      begin.run();
      outcomes = group.map(runUnit);
      commit.run();
      failing = false;
      commits.done++;
    } catch (error) {
      failing = true;
      commits.failed++;
      if (db.inTransaction) rollback.run();
      outcomes = group.map((unit) => ({ unit, error: unavailable(error) }));
    }
    outcomes.forEach(tell);
    scheduled = waiting.length > 0;
    if (scheduled) {
      setImmediate(runGroup);
      return;
    }
    for (const waiter of idleWaiters) waiter();
    idleWaiters = [];
  }

  return {
    submit<T>(apply: () => T, operations = 1) {
      return new Promise<T>((resolve, reject) => {
        waiting.push({ apply, operations, resolve: resolve as (value: unknown) => void, reject });
        if (scheduled) return;
        scheduled = true;
        setImmediate(runGroup);
      });
    },
    get figures() {
      return { waiting: waiting.length, ...commits };
    },
    get isFailing() {
      return failing;
    },
    idle() {
      if (!scheduled) return Promise.resolve();
      return new Promise((resolve) => {
        idleWaiters.push(resolve);
      });
    },
  };
}
