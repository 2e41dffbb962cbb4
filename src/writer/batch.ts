// Group commit: everything that waits goes into one transaction, each sender's change under a savepoint of its own, so
// that a bad one undoes only itself. A change is acknowledged after the commit, never before.
import type { Database } from 'better-sqlite3';
import { BoxRunError } from '../shared/errors.ts';
import { limits } from '../shared/limits.ts';
import { createChangeQueue, type ChangeTraits, type WaitingChange } from './change-queue.ts';

export interface Batch {
  /**
   * Runs `apply` inside the next group; resolves with its value once that is committed.
   * @throws what `apply` throws (final), or UNAVAILABLE when the database could not commit (to be sent again)
   */
  submit<T>(apply: () => T, size?: ChangeTraits): Promise<T>;
  readonly figures: { readonly waiting: number; readonly done: number; readonly failed: number };
  /** True after a group could not be committed, until one is. */
  readonly isFailing: boolean;
  /** Resolves when nothing waits any more. */
  idle(): Promise<void>;
}

type Outcome = { readonly unit: WaitingChange } & ({ readonly value: unknown } | { readonly error: unknown });

/** SQLite's own troubles (disk full, I/O error, locked by another program) pass; the same change may succeed later. */
function isPassing(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' && /^SQLITE_(FULL|IOERR|BUSY|LOCKED|NOMEM|CANTOPEN|READONLY)/.test(code);
}

/** A full disk shows as an I/O error too, where the log of changes cannot grow. */
function isForWantOfRoom(error: unknown): boolean {
  return /^SQLITE_(FULL|IOERR)/.test(String((error as { code?: unknown }).code));
}

function unavailable(error: unknown): BoxRunError {
  return new BoxRunError('UNAVAILABLE', `the database cannot be written: ${String(error)}`, {
    hint: 'free disk space, or close whatever program holds the database',
    cause: error,
  });
}

function tell(outcome: Outcome): void {
  if ('error' in outcome) outcome.unit.reject(outcome.error);
  else outcome.unit.resolve(outcome.value);
}

/** Runs a group in one transaction. @throws when it could not be committed; then nothing of it is. */
function createTransaction(db: Database): (group: readonly WaitingChange[]) => Outcome[] {
  const begin = db.prepare('BEGIN IMMEDIATE');
  const commit = db.prepare('COMMIT');
  const rollback = db.prepare('ROLLBACK');
  const savepoint = db.prepare('SAVEPOINT sender');
  const release = db.prepare('RELEASE sender');
  const undo = db.prepare('ROLLBACK TO sender');
  function runUnit(unit: WaitingChange): Outcome {
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

  return (group) => {
    try {
      begin.run();
      const outcomes = group.map(runUnit);
      commit.run();
      return outcomes;
    } catch (error) {
      if (db.inTransaction) rollback.run();
      throw error;
    }
  };
}

/** @param makeRoom gives up what is kept for a full disk; false when there is nothing to give */
export function createBatch(db: Database, makeRoom: () => boolean = () => false): Batch {
  const runTransaction = createTransaction(db);
  const waiting = createChangeQueue();
  let scheduled = false;
  let resting: NodeJS.Timeout | null = null;
  let failing = false;
  const commits = { done: 0, failed: 0 };
  let idleWaiters: (() => void)[] = [];

  /** Runs the next group as soon as it may: at once where somebody waits for a small change. */
  function schedule(): void {
    if (scheduled) return;
    if (resting !== null) clearTimeout(resting);
    resting = null;
    const restMs = waiting.waitMs();
    if (restMs > 0) {
      resting = setTimeout(schedule, Math.ceil(restMs));
      return;
    }
    scheduled = true;
    setImmediate(runGroup);
  }

  function runWithRoom(group: readonly WaitingChange[]): Outcome[] {
    try {
      return runTransaction(group);
    } catch (error) {
      if (!isForWantOfRoom(error) || !makeRoom()) throw error;
      return runTransaction(group);
    }
  }

  function runGroup(): void {
    const group = waiting.takeGroup();
    const startedAt = performance.now();
    let outcomes: Outcome[];
    try {
      outcomes = runWithRoom(group);
      failing = false;
      commits.done++;
    } catch (error) {
      failing = true;
      commits.failed++;
      outcomes = group.map((unit) => ({ unit, error: unavailable(error) }));
    }
    waiting.took(group, performance.now() - startedAt);
    outcomes.forEach(tell);
    scheduled = false;
    if (waiting.length > 0) {
      schedule();
      return;
    }
    for (const waiter of idleWaiters) waiter();
    idleWaiters = [];
  }

  return {
    submit<T>(apply: () => T, { operations = 1, bytes = 0, isOutput = false, sender }: ChangeTraits = {}) {
      return new Promise<T>((resolve, reject) => {
        const isLarge = bytes >= limits.largeChangeBytes;
        waiting.add({
          apply,
          operations,
          isLarge,
          isAwaited: !isLarge && !isOutput,
          sender,
          resolve: resolve as (value: unknown) => void,
          reject,
        });
        schedule();
      });
    },
    get figures() {
      return { waiting: waiting.length, ...commits };
    },
    get isFailing() {
      return failing;
    },
    idle() {
      if (waiting.length === 0 && !scheduled) return Promise.resolve();
      return new Promise((resolve) => {
        idleWaiters.push(resolve);
      });
    },
  };
}
