// The two output streams of one command: read at once from the first byte, no faster than the writer takes it, and at
// the end until the leader's own output is through. exec.ts makes one per command; every byte read before `discard` is
// written on.
import type { Readable } from 'node:stream';
import { pendingReads, settledWithin } from '../../shared/waiting/clock.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { CommitQueue } from '../commands/commit-queue.ts';
import type { OutputBuffer, OutputStream } from './output-buffer.ts';
import { faultPoint } from '../../shared/faults/fault.ts';

export interface OutputReader {
  /**
   * To be called at the leader's exit; resolves when the streams have ended. Background children may hold them: they
   * get limits.exitDrainMs; longer only while output comes in a bulk that must be the leader's own, still queued.
   * Without children all that comes is the leader's own, however slowly an engine brings it: then the end is waited
   * for. Time in which the writer kept us from reading does not count.
   */
  drain(hasChildren: () => Promise<boolean>): Promise<void>;
  /** From now on what comes is read and dropped: a full pipe would stop background children. */
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
  let heldBack = 0;
  let wasHeldBack = false;

  function take(name: OutputStream, piece: Buffer): void {
    if (discarding) return;
    bytesRead += piece.length;
    deps.output.write(name, piece);
    faultPoint('worker.output.read');
    if (!deps.queue.hasRoom) void holdBack(streams[name]);
  }

  async function holdBack(stream: Readable): Promise<void> {
    stream.pause();
    heldBack++;
    await deps.queue.room();
    heldBack--;
    wasHeldBack = true;
    stream.resume();
  }

  /** Resolves when the stream has ended, or is gone. Events cost a short command a third of what iterating costs it. */
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

  /** What was read since the last call, and whether the writer's slowness kept us from reading. */
  function takeProgress() {
    const progress = { bytes: bytesRead, heldBack: wasHeldBack || heldBack > 0 };
    bytesRead = 0;
    wasHeldBack = false;
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
      let alone = false;
      takeProgress();
      while (leftMs > 0) {
        if (await settledWithin(allEnded, limits.exitDrainMs)) return;
        if (await Promise.race([allEnded, pendingReads().then(() => false)])) return;
        // Who does not know takes them for children: the wait must end.
        alone ||= !(await hasChildren().catch(() => true));
        const { bytes, heldBack: stalled } = takeProgress();
        if (stalled) continue;
        if (!alone && bytes < limits.exitDrainBusyBytes) return;
        leftMs = alone && bytes > 0 ? limits.exitDrainBusyMs : leftMs - limits.exitDrainMs;
      }
      deps.log.warn({ alone }, 'output did not end in time after its command; what comes from now on is dropped');
    },
    discard() {
      discarding = true;
    },
  };
}
