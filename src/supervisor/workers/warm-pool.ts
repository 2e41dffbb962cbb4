// Spare workers: started, connected, waiting for a box. A box takes one, and another is started in the background.
// Used by box-worker.ts, filled by main.ts. No dead worker is given out, and none is left when the pool is closed.
import { settledWithin } from '../../shared/waiting/clock.ts';
import { errorText } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { WorkerHandle } from './worker-handle.ts';

export interface WarmPool {
  /** A spare, or a worker started now. @throws UNAVAILABLE when none comes up */
  take(): Promise<WorkerHandle>;
  /** Adds a spare that an earlier supervisor left. */
  adopt(worker: WorkerHandle): void;
  fill(): void;
  /** Does `work`, the start or the end of a box; a spare begins to start meanwhile only after `waitMs`. */
  undisturbed<T>(work: () => Promise<T>): Promise<T>;
  /** Dismisses every spare and starts no more. */
  close(): Promise<void>;
}

export interface WarmPoolOptions {
  /** How many spares there are to be, now. */
  readonly size: () => number;
  readonly start: () => Promise<WorkerHandle>;
  readonly log: Logger;
  /** How long a spare waits at the most with its start while boxes come up or go: milliseconds. */
  readonly waitMs?: number;
}

export function createWarmPool({ size, start, log, waitMs = limits.spareWaitMs }: WarmPoolOptions): WarmPool {
  const spares = new Set<WorkerHandle>();
  let filling: Promise<void> | null = null;
  let closed = false;
  let underWay = 0;
  let quiet: Promise<void> = Promise.resolve();
  let announceQuiet: () => void = () => undefined;

  function adopt(worker: WorkerHandle): void {
    spares.add(worker);
    void worker.gone.then(
      () => spares.delete(worker),
      () => spares.delete(worker),
    );
  }

  function fill(): void {
    filling ??= fillUp().finally(() => {
      filling = null;
    });
  }

  async function fillUp(): Promise<void> {
    // One at a time: filling must not take the cores from the boxes.
    while (spares.size < size() && !closed) {
      if (underWay > 0) {
        await settledWithin(quiet, waitMs);
        if (closed) return;
      }
      try {
        const spare = await start();
        if (spares.size < size()) adopt(spare);
        else await spare.dismiss();
      } catch (error) {
        log.warn({ reason: errorText(error) }, 'a spare worker did not come up');
        return; // The next `take` tries again.
      }
    }
  }

  async function dismissAll(): Promise<void> {
    const leaving = [...spares];
    spares.clear();
    // One that cannot be killed keeps the others from nothing.
    await Promise.allSettled(leaving.map((worker) => worker.dismiss()));
  }

  return {
    adopt,
    fill,
    async undisturbed(work) {
      if (underWay++ === 0)
        quiet = new Promise((resolve) => {
          announceQuiet = resolve;
        });
      try {
        return await work();
      } finally {
        if (--underWay === 0) announceQuiet();
      }
    },
    async take() {
      try {
        for (const spare of spares) {
          spares.delete(spare);
          if (spare.peer.isOpen) return spare;
        }
        return await start();
      } finally {
        fill();
      }
    },
    async close() {
      closed = true;
      await dismissAll();
      await filling;
      await dismissAll(); // One may have been coming up.
    },
  };
}
