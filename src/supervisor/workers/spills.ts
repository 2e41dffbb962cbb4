// Sends spill files to the writer, and deletes them. All spills of a box must be sent before its lease is closed or the
// next generation is opened: until then the writer accepts them as if they came from the worker that wrote them.
import type { Config } from '../../shared/settings/config.ts';
import { noWriterNotices, writerContract, type ExecChange } from '../../shared/contracts/writer.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import { createInTurn } from '../../shared/waiting/in-turn.ts';
import { connectContract } from '../../shared/ipc/client.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { readSpills, type Spill } from '../../shared/contracts/spill.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import { isOutcomeUnknown, retryUntilDone } from './retry.ts';

export interface Spills {
  /** Sends the spills of all boxes. @throws UNAVAILABLE, TIMEOUT when the writer does not take them now */
  sendAll(): Promise<void>;
  /** Sends the spills of one box. @throws UNAVAILABLE, TIMEOUT when the writer does not take them now */
  send(boxId: string): Promise<void>;
  /** Sends the spills of one box, and tries again until the writer takes them. Never rejects. */
  sendLater(boxId: string): Promise<void>;
}

export function createSpills(config: Config, log: Logger): Spills {
  const { spillDir, writerSocket } = statePaths(config.stateDir);
  const inTurn = createInTurn(); // Two calls at once would both send and delete the same file.

  async function sendWhere(wanted: (spill: Spill) => boolean): Promise<void> {
    for (const { path, spill, remove } of await readSpills(spillDir)) {
      if (spill === null) {
        log.error({ path }, 'a spill file cannot be parsed; it stays where it is');
      } else if (wanted(spill)) {
        faultPoint('supervisor.spill.read');
        await sendOne(spill).catch((error: unknown) => {
          if (isOutcomeUnknown(error)) throw error;
          log.error({ err: error, path }, 'the writer refuses a spill; it is removed');
        });
        faultPoint('supervisor.spill.committed');
        await remove();
      }
    }
  }

  async function sendOne({ boxId, generation, changes }: Spill): Promise<void> {
    const peer = await connectContract({
      path: writerSocket,
      contract: writerContract,
      hello: { role: 'worker', boxId, generation },
      notices: noWriterNotices,
    });
    try {
      for (const slice of slicesOf(changes)) await peer.request('changeExecs', { changes: slice });
    } finally {
      peer.close('done');
    }
  }

  const send = (boxId: string) => inTurn(() => sendWhere((spill) => spill.boxId === boxId));
  return {
    sendAll: () => inTurn(() => sendWhere(() => true)),
    send,
    async sendLater(boxId) {
      await retryUntilDone(() => send(boxId)).catch((error: unknown) => {
        log.error({ err: error, boxId }, 'the spills of a box cannot be sent to the writer');
      });
    },
  };
}

/**
 * A spill may be longer than an IPC frame may be, so it is sent in slices. The exit event of a command and the change
 * that finishes its row follow each other, and stay in one slice.
 */
function* slicesOf(changes: readonly ExecChange[]): Generator<ExecChange[]> {
  let slice: ExecChange[] = [];
  let bytes = 0;
  for (const change of changes) {
    slice.push(change);
    bytes += change.op === 'event' ? change.event.data.length : JSON.stringify(change).length;
    const isExit = change.op === 'event' && change.event.type === 'exit';
    if (isExit || (bytes < limits.commitBytesMax && slice.length < limits.commitOpsMax)) continue;
    yield slice;
    slice = [];
    bytes = 0;
  }
  if (slice.length > 0) yield slice;
}
