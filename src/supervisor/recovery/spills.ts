// What workers spilled because the writer did not answer, on its way to the database after all. Everything of a box is
// sent before its lease is closed or the next generation granted: until then the writer takes it as from the worker
// that wrote it.
import type { Config } from '../../shared/settings/config.ts';
import { noWriterNotices, writerContract, type ExecChange } from '../../shared/contracts/writer.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import { createInTurn } from '../../shared/waiting/in-turn.ts';
import { connectContract } from '../../shared/ipc/client.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { readSpills, type Spill } from '../../shared/store/spill.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import { isOutcomeUnknown, retryUntilDone } from '../boxes/retry.ts';

export interface Spills {
  /** Resolves when none is left. @throws UNAVAILABLE, TIMEOUT when the writer does not take them now */
  sendAll(): Promise<void>;
  /** Of one box. @throws as sendAll */
  send(boxId: string): Promise<void>;
  /** Of one box, as soon as the writer takes them. Never rejects. */
  sendLater(boxId: string): Promise<void>;
}

export function createSpills(config: Config, log: Logger): Spills {
  const { spillDir, writerSocket } = statePaths(config.stateDir);
  const inTurn = createInTurn(); // Two that send the same file would both delete it.

  async function sendWhere(wanted: (spill: Spill) => boolean): Promise<void> {
    for (const { path, spill, forget } of await readSpills(spillDir)) {
      if (spill === null) {
        log.error({ path }, 'a spill file does not parse; it is left where it is');
      } else if (wanted(spill)) {
        faultPoint('supervisor.spill.read');
        await sendOne(spill).catch((error: unknown) => {
          if (isOutcomeUnknown(error)) throw error;
          log.error({ err: error, path }, 'the writer refused a spill for good');
        });
        faultPoint('supervisor.spill.committed');
        await forget();
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
        log.error({ err: error, boxId }, 'what a worker spilled cannot be sent');
      });
    },
  };
}

/** A spill as a whole may be longer than a frame can be. An exit event stays with its finished row. */
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
