// The lease of one box: opens the next generation, and closes an old one. This file alone raises `row.generation`. The
// spills of the box always go to the writer first, because the writer refuses them once their generation is over.
import type { WriterContract } from '../../shared/contracts/writer.ts';
import type { Link } from '../../shared/ipc/link.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import { isOutcomeUnknown, retryUntilDone } from './retry.ts';
import type { Spills } from './spills.ts';

export interface BoxLease {
  /**
   * Commits the next generation and puts it into the row. From then on the writer refuses changes from older workers.
   * @throws UNAVAILABLE, TIMEOUT when the writer does not take the spills or the lease; BOX_NOT_FOUND
   */
  open(): Promise<void>;
  /**
   * Ends `generation`. If it is the present one, the database and the row get the next generation. The writer ends the
   * commands that still run in the rows of `generation` or an older one.
   * @param reason stands in the error message of these commands
   * @param kept commands that go on under the next generation
   * @throws UNAVAILABLE, TIMEOUT when the writer does not take the spills or does not answer
   */
  close(generation: number, reason: string, kept?: readonly string[]): Promise<void>;
  /** Like `close`, but it never rejects. While the writer is away it is tried again in the background. */
  closeNowOrLater(generation: number, reason: string): Promise<void>;
}

export interface BoxLeaseDeps {
  readonly writer: Pick<Link<WriterContract>, 'request'>;
  readonly spills: Pick<Spills, 'send'>;
  readonly log: Logger;
}

export function createBoxLease({ writer, spills, log }: BoxLeaseDeps, row: BoxRow): BoxLease {
  async function close(generation: number, reason: string, kept: readonly string[] = []): Promise<void> {
    await spills.send(row.id);
    const keptExecs = kept.length === 0 ? {} : { keptExecs: [...kept] };
    await writer.request('closeLease', { boxId: row.id, generation, reason, ...keptExecs }, { resend: true });
    row.generation = Math.max(row.generation, generation + 1);
  }

  return {
    async open() {
      await spills.send(row.id);
      const generation = row.generation + 1;
      await writer.request('openLease', { boxId: row.id, generation }, { resend: true });
      row.generation = generation;
    },
    close,
    async closeNowOrLater(generation, reason) {
      await close(generation, reason).catch((error: unknown) => {
        log.error({ err: error }, 'the commands of a lost worker cannot be ended yet');
        // A final error in the retry means that the box has been removed. Then no command is left to end.
        if (isOutcomeUnknown(error)) void retryUntilDone(() => close(generation, reason)).catch(() => undefined);
      });
    },
  };
}
