// Spare workers: they are started and connected, and wait for a box. When a box takes one, the pool starts another one
// in the background. The pool gives out only connected workers, and it stops all spares when it is closed.
import { settledWithin } from '../../shared/waiting/clock.ts';
import { errorText } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { WorkerHandle } from './worker-handle.ts';

export interface WarmPool {
  /** A spare worker. If there is none, a worker is started now. @throws UNAVAILABLE when it does not come up */
  take(): Promise<WorkerHandle>;
  /** Adds a spare that an earlier supervisor left. */
  adopt(worker: WorkerHandle): void;
  /** Starts missing spares in the background. */
  fill(): void;
  /**
   * Runs `work`, the start or the end of a box. Meanwhile the pool waits before it starts the next spare, for at most
   * `WarmPoolOptions.waitMs`.
   */
  holdBackSpares<T>(work: () => Promise<T>): Promise<T>;
  /** Stops every spare, and starts no more. */
  close(): Promise<void>;
}

export interface WarmPoolOptions {
  /** How many spares the pool should hold now. */
  readonly size: () => number;
  readonly start: () => Promise<WorkerHandle>;
  readonly log: Logger;
  /** The longest wait before the start of a spare while boxes come up or end, in milliseconds. */
  readonly waitMs?: number;
}

export function createWarmPool({ size, start, log, waitMs = limits.spareWaitMs }: WarmPoolOptions): WarmPool {
  const spares = new Set<WorkerHandle>();
  let filling: Promise<void> | null = null;
  let closed = false;
  let boxesChanging = 0;
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
    // One at a time: starting spares must not take the processors from the boxes.
    while (spares.size < size() && !closed) {
      if (boxesChanging > 0) {
        await settledWithin(quiet, waitMs);
        if (closed) return;
      }
      try {
        const spare = await start();
        if (spares.size < size()) adopt(spare);
        else await spare.stop();
      } catch (error) {
        log.warn({ reason: errorText(error) }, 'a spare worker did not come up');
        return; // The next call of `take` or `fill` tries again.
      }
    }
  }

  async function stopAll(): Promise<void> {
    const stopping = [...spares];
    spares.clear();
    // allSettled: a spare that cannot be killed must not keep the pool from stopping the others.
    await Promise.allSettled(stopping.map((worker) => worker.stop()));
  }

  return {
    adopt,
    fill,
    async holdBackSpares(work) {
      if (boxesChanging++ === 0)
        quiet = new Promise((resolve) => {
          announceQuiet = resolve;
        });
      try {
        return await work();
      } finally {
        if (--boxesChanging === 0) announceQuiet();
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
      await stopAll();
      await filling;
      await stopAll(); // The last `fillUp` may have added one.
    },
  };
}
