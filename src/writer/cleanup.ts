// Removes old rows at regular times: expired Idempotency-Keys, and commands that ended longer ago than the retention
// time. It works in short slices with pauses between them, so that no other change waits long for it.
import { sleep } from '../shared/waiting/clock.ts';
import { limits } from '../shared/limits.ts';
import type { Logger } from '../shared/observe/log.ts';
import type { Batch } from './batch.ts';
import type { CleanupPosition } from './removal.ts';
import type { Statements } from './statements.ts';

export interface CleanupDeps {
  readonly batch: Batch;
  readonly statements: Pick<Statements, 'removeKeysBefore' | 'removeExpiredSlice'>;
  /** Moves what was committed from SQLite's log into the database file. */
  readonly checkpoint: () => void;
  readonly log: Logger;
  /** Milliseconds until the first cleanup. */
  readonly firstMs?: number;
  /** How long ended commands are kept, in hours. 0: forever. */
  readonly retentionHours: number;
}

export interface Cleanup {
  /** Changes the retention time, and removes what is too old by the new time at once. */
  setRetention(retentionHours: number): void;
  /** Starts no more slices. */
  close(): void;
}

/** Cleans up after `firstMs` (limits.cleanupFirstMs), and then every limits.cleanupEveryMs milliseconds. */
export function startCleanup(deps: CleanupDeps): Cleanup {
  const { log } = deps;
  const closing = new AbortController();
  let { retentionHours } = deps;
  let running: Promise<void> | null = null;

  function cleanUpNow(): void {
    running ??= cleanUp(deps, retentionHours, closing.signal)
      .catch((error: unknown) => {
        log.warn({ err: error }, 'old keys and commands could not be removed');
      })
      .finally(() => {
        running = null;
      });
  }

  const first = setTimeout(cleanUpNow, deps.firstMs ?? limits.cleanupFirstMs);
  const timer = setInterval(cleanUpNow, limits.cleanupEveryMs);
  return {
    setRetention(hours) {
      if (hours === retentionHours) return;
      retentionHours = hours;
      void (running ?? Promise.resolve()).then(cleanUpNow);
    },
    close() {
      clearTimeout(first);
      clearInterval(timer);
      closing.abort();
    },
  };
}

/** Resolves when all old rows are gone, or when `closing` aborts. */
async function cleanUp(
  { batch, checkpoint, statements }: CleanupDeps,
  retentionHours: number,
  closing: AbortSignal,
): Promise<void> {
  const ago = (ms: number) => new Date(Date.now() - ms).toISOString();
  const rest = (sinceMs: number) =>
    sleep(Math.max(1, (performance.now() - sinceMs) * limits.cleanupRestFactor), closing);
  /**
   * Runs `slice` again and again, each time in its own change, until it returns true. Each slice changes pages in many
   * places. If they stayed in the log, a later commit of another sender would have to bring them all into the database
   * file at once, which takes long. So a checkpoint follows each slice, after a rest in which other senders commit.
   */
  async function inSlices(slice: () => boolean): Promise<void> {
    while (!closing.aborted) {
      let startedAt = 0;
      const isLast = await batch.submit(() => {
        startedAt = performance.now();
        return slice();
      });
      await rest(startedAt);
      if (closing.aborted) return; // The database may be closed.
      const checkpointAt = performance.now();
      checkpoint();
      if (isLast) return;
      await rest(checkpointAt);
    }
  }
  const keysBefore = ago(limits.keyLifeMs);
  await inSlices(() => statements.removeKeysBefore(keysBefore) < limits.keyCleanupSliceRows);
  if (retentionHours === 0) return;
  // A key must not live longer than its command. So commands are kept at least for the life of a key.
  const execsBefore = ago(Math.max(retentionHours * 60 * 60 * 1000, limits.keyLifeMs));
  let position: CleanupPosition = null;
  await inSlices(() => {
    position = statements.removeExpiredSlice(execsBefore, position);
    return position === null;
  });
}
