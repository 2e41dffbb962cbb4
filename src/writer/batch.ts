// Group commit: all waiting changes go into one transaction. Each change has its own savepoint, so a change that fails
// undoes only itself. A change is acknowledged after the commit, never before.
import type { Database } from 'better-sqlite3';
import { BoxRunError } from '../shared/errors.ts';
import { limits } from '../shared/limits.ts';
import { createChangeQueue, type ChangeTraits, type WaitingChange } from './change-queue.ts';

export interface Batch {
  /**
   * Runs `apply` in the transaction of a group. Resolves with its value when the group is committed.
   * @throws the error of `apply`, which is final; UNAVAILABLE when the group could not be committed: the client may
   *   send the change again
   */
  submit<T>(apply: () => T, size?: ChangeTraits): Promise<T>;
  readonly figures: { readonly waiting: number; readonly done: number; readonly failed: number };
  /** True after a failed commit, until the next successful one. */
  readonly isFailing: boolean;
  /** Resolves when no change waits any more. */
  idle(): Promise<void>;
}

type Outcome = { readonly change: WaitingChange } & ({ readonly value: unknown } | { readonly error: unknown });

/** True for troubles of SQLite itself (disk full, I/O error, a lock): the same change may succeed later. */
function isTemporary(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' && /^SQLITE_(FULL|IOERR|BUSY|LOCKED|NOMEM|CANTOPEN|READONLY)/.test(code);
}

/** On a full disk SQLite may also report an I/O error, when its write-ahead log cannot grow. */
function mayBeFullDisk(error: unknown): boolean {
  return /^SQLITE_(FULL|IOERR)/.test(String((error as { code?: unknown }).code));
}

function unavailable(error: unknown): BoxRunError {
  return new BoxRunError('UNAVAILABLE', `the database cannot be written: ${String(error)}`, {
    hint: 'free disk space, or close the program that holds the database',
    cause: error,
  });
}

function acknowledge(outcome: Outcome): void {
  if ('error' in outcome) outcome.change.reject(outcome.error);
  else outcome.change.resolve(outcome.value);
}

/** Runs a group in one transaction. @throws when the group could not be committed; then no change of it is kept */
function createTransaction(db: Database): (group: readonly WaitingChange[]) => Outcome[] {
  const begin = db.prepare('BEGIN IMMEDIATE');
  const commit = db.prepare('COMMIT');
  const rollback = db.prepare('ROLLBACK');
  const savepoint = db.prepare('SAVEPOINT sender');
  const release = db.prepare('RELEASE sender');
  const undo = db.prepare('ROLLBACK TO sender');
  function runChange(change: WaitingChange): Outcome {
    savepoint.run();
    try {
      const value = change.apply();
      release.run();
      return { change, value };
    } catch (error) {
      if (isTemporary(error)) throw error;
      undo.run();
      release.run();
      return { change, error };
    }
  }

  return (group) => {
    try {
      begin.run();
      const outcomes = group.map(runChange);
      commit.run();
      return outcomes;
    } catch (error) {
      if (db.inTransaction) rollback.run();
      throw error;
    }
  };
}

/** @param releaseReserve releases the reserve of disk space; false when there is none left */
export function createBatch(db: Database, releaseReserve: () => boolean = () => false): Batch {
  const runTransaction = createTransaction(db);
  const waiting = createChangeQueue();
  let scheduled = false;
  let pause: NodeJS.Timeout | null = null;
  let failing = false;
  const commits = { done: 0, failed: 0 };
  let idleWaiters: (() => void)[] = [];

  /** Runs the next group now, or after the pause if only large changes wait. */
  function schedule(): void {
    if (scheduled) return;
    if (pause !== null) clearTimeout(pause);
    pause = null;
    const pauseMs = waiting.pauseMs();
    if (pauseMs > 0) {
      pause = setTimeout(schedule, Math.ceil(pauseMs));
      return;
    }
    scheduled = true;
    setImmediate(runGroup);
  }

  function runWithRoom(group: readonly WaitingChange[]): Outcome[] {
    try {
      return runTransaction(group);
    } catch (error) {
      if (!mayBeFullDisk(error) || !releaseReserve()) throw error;
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
      outcomes = group.map((change) => ({ change, error: unavailable(error) }));
    }
    waiting.noteCommit(group, performance.now() - startedAt);
    outcomes.forEach(acknowledge);
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
