// What the writer removes by itself, now and then: keys of requests whose time is over, and commands that ended longer ago than
// they are to be kept. Slice by slice, so that nobody's change waits for long. Started by main.ts.
import { limits } from '../shared/limits.ts';
import type { Logger } from '../shared/log.ts';
import type { Batch } from './batch.ts';
import type { Statements } from './statements.ts';

export interface SweepDeps {
  readonly batch: Batch;
  readonly statements: Pick<Statements, 'forgetKeysBefore' | 'removeExecsSlice'>;
  readonly log: Logger;
  /** 0: for ever. */
  readonly retentionHours: number;
}

/** The first sweep is at once. `close` starts no more. */
export function startSweeps(deps: SweepDeps): { close(): void } {
  void sweep(deps);
  const timer = setInterval(() => void sweep(deps), limits.keySweepEveryMs);
  return { close: () => { clearInterval(timer); } };
}

/** Resolves when everything that was due is gone, or logs why it is not. */
async function sweep({ batch, statements, log, retentionHours }: SweepDeps): Promise<void> {
  const ago = (ms: number) => new Date(Date.now() - ms).toISOString();
  try {
    const keysBefore = ago(limits.keyLifeMs);
    while ((await batch.submit(() => statements.forgetKeysBefore(keysBefore))) === limits.keySweepSliceRows);
    if (retentionHours === 0) return;
    // A key must not outlive what it stands for.
    const execsBefore = ago(Math.max(retentionHours * 60 * 60 * 1000, limits.keyLifeMs));
    while (!(await batch.submit(() => statements.removeExecsSlice(execsBefore))));
  } catch (error) {
    log.warn({ err: error }, 'what is too old could not be removed');
  }
}
