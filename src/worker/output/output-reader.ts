// The reader of one command's two output streams. It reads from the first byte on, and pauses while the writer is
// behind. Every byte that it reads before `discard` goes into the output buffer.
import type { Readable } from 'node:stream';
import { pendingReads, settledWithin } from '../../shared/waiting/clock.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { CommitQueue } from './commit-queue.ts';
import type { OutputBuffer, OutputStream } from './output-buffer.ts';
import { faultPoint } from '../../shared/faults/fault.ts';

export interface OutputReader {
  /**
   * Reads the rest of the output. Call it when the leader has ended. Resolves when both streams have ended, or when the
   * wait is over. Time in which the reader pauses for the writer does not count.
   *
   * - Background children may hold the streams open. Then the wait lasts limits.exitDrainMs. It goes on while at least
   *   limits.exitDrainBusyBytes come in each such period. Children rarely print so much, so it counts as output of the
   *   leader that still was on its way. After limits.exitDrainBusyMs it ends in any case.
   * - Without children, all output is the leader's own, even if the engine delivers it slowly. Then the wait lasts
   *   until no byte has come for limits.exitDrainBusyMs.
   */
  drain(hasChildren: () => Promise<boolean>): Promise<void>;
  /**
   * From now on, output is read and dropped. Without a reader, the pipe would fill up and block background children.
   */
  discard(): void;
}

interface ReadOutputDeps {
  readonly output: OutputBuffer;
  readonly queue: Pick<CommitQueue, 'hasRoom' | 'room'>;
  readonly log: Logger;
}

export function readOutput(streams: Readonly<Record<OutputStream, Readable>>, deps: ReadOutputDeps): OutputReader {
  let discarding = false;
  let bytesRead = 0;
  let pausedCount = 0;
  let wasPaused = false;

  function take(name: OutputStream, piece: Buffer): void {
    if (discarding) return;
    bytesRead += piece.length;
    deps.output.write(name, piece);
    faultPoint('worker.output.read');
    if (!deps.queue.hasRoom) void pauseForWriter(streams[name]);
  }

  async function pauseForWriter(stream: Readable): Promise<void> {
    stream.pause();
    pausedCount++;
    await deps.queue.room();
    pausedCount--;
    wasPaused = true;
    stream.resume();
  }

  /**
   * Resolves when the stream has ended or is closed. It listens to events, because an iterator takes three times as
   * long for a short command.
   */
  function pump(name: OutputStream): Promise<void> {
    const stream = streams[name];
    return new Promise((resolve, reject) => {
      stream.once('end', resolve);
      stream.once('close', resolve);
      stream.once('error', reject);
      stream.on('data', (piece: Buffer) => {
        take(name, piece);
      });
    });
  }

  /** Returns how many bytes were read since the last call, and whether the reader paused for the writer meanwhile. */
  function takeProgress() {
    const progress = { bytes: bytesRead, paused: wasPaused || pausedCount > 0 };
    bytesRead = 0;
    wasPaused = false;
    return progress;
  }

  const pumps = (['stdout', 'stderr'] as const).map((name) =>
    pump(name).catch((error: unknown) => {
      deps.log.warn({ err: error, stream: name }, 'reading output failed');
    }),
  );
  const allEnded = Promise.all(pumps).then(() => true);

  return {
    async drain(hasChildren) {
      let leftMs: number = limits.exitDrainBusyMs;
      let noChildren = false;
      takeProgress();
      while (leftMs > 0) {
        if (await settledWithin(allEnded, limits.exitDrainMs)) return;
        if (await Promise.race([allEnded, pendingReads().then(() => false)])) return;
        // If the driver cannot tell, children are assumed: then the wait certainly ends.
        noChildren ||= !(await hasChildren().catch(() => true));
        const { bytes, paused } = takeProgress();
        if (paused) continue;
        if (!noChildren && bytes < limits.exitDrainBusyBytes) return;
        leftMs = noChildren && bytes > 0 ? limits.exitDrainBusyMs : leftMs - limits.exitDrainMs;
      }
      deps.log.warn({ alone: noChildren }, 'the output of a command did not end in time; later output is dropped');
    },
    discard() {
      discarding = true;
    },
  };
}
