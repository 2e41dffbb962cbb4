// What the writer removes by itself, now and then: keys of requests whose time is over, and commands that ended longer
// ago than they are to be kept. In short slices with rests between them, so that nobody's change waits for a sweep.
// Started by main.ts.
import { sleep } from '../shared/waiting/clock.ts';
import { limits } from '../shared/limits.ts';
import type { Logger } from '../shared/observe/log.ts';
import type { Batch } from './batch.ts';
import type { SweepPosition } from './removal.ts';
import type { Statements } from './statements.ts';

export interface SweepDeps {
  readonly batch: Batch;
  readonly statements: Pick<Statements, 'removeKeysBefore' | 'removeExpiredSlice'>;
  readonly log: Logger;
  /** 0: for ever. */
  readonly retentionHours: number;
}

export interface Sweeps {
  /** From now on; what is too old by that goes at once. */
  setRetention(retentionHours: number): void;
  /** Starts no more slices. */
  close(): void;
}

/** The first sweep is at once. */
export function startSweeps(deps: SweepDeps): Sweeps {
  const { log } = deps;
  const closing = new AbortController();
  let { retentionHours } = deps;
  let running: Promise<void> | null = null;

  function sweepNow(): void {
    running ??= sweep(deps, retentionHours, closing.signal)
      .catch((error: unknown) => {
        log.warn({ err: error }, 'what is too old could not be removed');
      })
      .finally(() => {
        running = null;
      });
  }

  sweepNow();
  const timer = setInterval(sweepNow, limits.keySweepEveryMs);
  return {
    setRetention(hours) {
      if (hours === retentionHours) return;
      retentionHours = hours;
      void (running ?? Promise.resolve()).then(sweepNow);
    },
    close() {
      clearInterval(timer);
      closing.abort();
    },
  };
}

/** Resolves when everything that was due is gone. */
async function sweep({ batch, statements }: SweepDeps, retentionHours: number, closing: AbortSignal): Promise<void> {
  const ago = (ms: number) => new Date(Date.now() - ms).toISOString();
  /** Slice by slice, until one says that it was the last. */
  async function inSlices(slice: () => boolean): Promise<void> {
    while (!closing.aborted) {
      let tookMs = 0;
      const isLast = await batch.submit(() => {
        const startedAt = performance.now();
        const last = slice();
        tookMs = performance.now() - startedAt;
        return last;
      });
      if (isLast) return;
      await sleep(Math.max(1, tookMs * limits.sweepRestFactor), closing);
    }
  }
  const keysBefore = ago(limits.keyLifeMs);
  await inSlices(() => statements.removeKeysBefore(keysBefore) < limits.keySweepSliceRows);
  if (retentionHours === 0) return;
  // A key must not outlive what it stands for.
  const execsBefore = ago(Math.max(retentionHours * 60 * 60 * 1000, limits.keyLifeMs));
  let position: SweepPosition = null;
  await inSlices(() => {
    position = statements.removeExpiredSlice(execsBefore, position);
    return position === null;
  });
}
