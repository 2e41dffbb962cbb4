// Tests the queue of changes to the writer against a double of the writer. The changes arrive in order, one batch at a
// time, and again until they are acknowledged. The queue has a limited size.
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { ExecChange } from '../../../src/shared/contracts/writer.ts';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { limits } from '../../../src/shared/limits.ts';
import { createCommitQueue, type CommitQueue } from '../../../src/worker/output/commit-queue.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { createRandom } from '../../support/runs/random.ts';
import { controlledPromise, settle } from '../../support/runs/unit.ts';
import { addEvent, finishExec, insertExec, logEvent } from '../writer/setup.ts';
import { createWriterDouble, stored, type WriterDouble } from './setup.ts';

interface OpenQueue {
  readonly queue: CommitQueue;
  readonly writer: WriterDouble;
  readonly refusals: BoxRunError[];
}

function openQueue(): OpenQueue {
  const writer = createWriterDouble();
  const refusals: BoxRunError[] = [];
  return {
    queue: createCommitQueue({ link: writer.link, onRefused: (error) => refusals.push(error) }),
    writer,
    refusals,
  };
}

const exitEvent = (execId: string, seq: number): ExecChange =>
  addEvent(execId, { seq, type: 'exit', stream: null, data: Buffer.from('{"exit_code":0}') });
const outputEvent = (seq: number, bytes: number): ExecChange =>
  addEvent('exec_a', { ...logEvent(seq), data: Buffer.alloc(bytes) });

describe('changes for the writer', () => {
  it('are sent together if they come in one turn of the event loop', async () => {
    const { queue, writer } = openQueue();
    for (let seq = 0; seq < 10; seq++) queue.push(addEvent('exec_a', logEvent(seq)));
    await queue.committed();
    expect(writer.batches.map(({ length }) => length)).toEqual([10]);
  });

  it('arrive in order and one batch at a time, even after lost connections and timeouts', async () => {
    const { queue, writer } = openQueue();
    const random = createRandom(7);
    writer.answer = async () => {
      await settle(random.whole(0, 3));
      if (random.whole(0, 4) === 0) throw new BoxRunError(random.pick(['UNAVAILABLE', 'TIMEOUT']), 'away');
    };
    for (let seq = 0; seq < 400; seq++) {
      queue.push(addEvent('exec_a', logEvent(seq)));
      if (random.whole(0, 9) === 0) await settle(1);
    }
    await queue.committed();
    expect(writer.committed.map((change) => (change.op === 'event' ? change.event.seq : -1))).toEqual(
      Array.from({ length: 400 }, (_, seq) => seq),
    );
    expect(writer.inProgress.most).toBe(1);
    expect(queue.unacknowledged()).toEqual([]);
  });

  it('wait for more if they are only the row of a command, and are sent with it', async () => {
    // Fake timers keep the few milliseconds of waiting from passing by themselves.
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const { queue, writer } = openQueue();
    queue.push(insertExec());
    await settle(3);
    expect(writer.batches).toEqual([]);
    queue.push(exitEvent('exec_a', 0));
    queue.push(finishExec('exec_a'));
    await queue.committed();
    expect(writer.batches.map((batch) => batch.map(({ op }) => op))).toEqual([['insert', 'event', 'finish']]);
  });

  it('are sent alone if they are only the row of a command and no more comes', async () => {
    const { queue, writer } = openQueue();
    queue.push(insertExec());
    await queue.committed();
    queue.push(addEvent('exec_a', logEvent(0)));
    await settle(3);
    queue.push(insertExec({ id: 'exec_b' }));
    await queue.committed();
    expect(writer.batches.map((batch) => batch.map(({ op }) => op))).toEqual([['insert'], ['event'], ['insert']]);
  });

  it('count as committed only when they are acknowledged', async () => {
    const { queue, writer } = openQueue();
    const answer = controlledPromise<undefined>();
    writer.answer = () => answer.promise;
    queue.push(addEvent('exec_a', logEvent(0)));
    let committed = false;
    const waiting = queue.committed().then(() => {
      committed = true;
    });
    await settle(10);
    expect(committed).toBe(false);
    expect(queue.unacknowledged()).toHaveLength(1);
    queue.push(addEvent('exec_a', logEvent(1))); // committed() does not wait for changes that are pushed later.
    writer.answer = () => new Promise(() => undefined);
    answer.resolve(undefined);
    await waiting;
    expect(queue.unacknowledged()).toHaveLength(1);
  });

  it('are sent again after a lost connection, unchanged and in the same order', async () => {
    const { queue, writer } = openQueue();
    let failures = 3;
    writer.answer = async () => {
      if (failures-- > 0) throw new BoxRunError('UNAVAILABLE', 'the connection ended');
    };
    for (let seq = 0; seq < 5; seq++) queue.push(addEvent('exec_a', logEvent(seq)));
    await queue.committed();
    expect(writer.batches).toHaveLength(4);
    for (const batch of writer.batches)
      expect(batch.map((change) => (change.op === 'event' ? change.event.seq : -1))).toEqual([0, 1, 2, 3, 4]);
    expect(stored(writer.batches.flat())).toHaveLength(5);
  });
});

describe('a batch of changes', () => {
  it('has a limited number of changes', async () => {
    const { queue, writer } = openQueue();
    for (let seq = 0; seq < limits.commitOpsMax * 2 + 1; seq++) queue.push(addEvent('exec_a', logEvent(seq, '')));
    await queue.committed();
    expect(writer.batches.map(({ length }) => length)).toEqual([limits.commitOpsMax, limits.commitOpsMax, 1]);
  });

  it('has a limited number of bytes', async () => {
    const { queue, writer } = openQueue();
    for (let seq = 0; seq < 64; seq++) queue.push(outputEvent(seq, limits.eventBytesMax));
    await queue.committed();
    for (const batch of writer.batches) {
      expect(batch.length * limits.eventBytesMax).toBeLessThanOrEqual(limits.commitBytesMax + limits.eventBytesMax);
    }
  });

  it('counts the length of commands, so that its frame is not too long', async () => {
    const { queue, writer } = openQueue();
    const cmd = ['echo', 'x'.repeat(900_000)];
    for (let index = 0; index < 30; index++) queue.push(insertExec({ id: `exec_${index}`, cmd }));
    await queue.committed();
    for (const batch of writer.batches) expect(batch.length).toBeLessThanOrEqual(2);
  });

  it('never ends between an exit event and its finished row, because they belong in one transaction', async () => {
    for (let before = limits.commitOpsMax - 3; before <= limits.commitOpsMax + 1; before++) {
      const { queue, writer } = openQueue();
      for (let seq = 0; seq < before; seq++) queue.push(addEvent('exec_a', logEvent(seq, '')));
      queue.push(exitEvent('exec_a', before));
      queue.push(finishExec('exec_a'));
      queue.push(insertExec({ id: 'exec_b' }));
      await queue.committed();
      const batch = writer.batches.find((changes) => changes.some(({ op }) => op === 'finish'));
      expect(
        batch?.some((change) => change.op === 'event' && change.event.type === 'exit'),
        `${before} before`,
      ).toBe(true);
    }
  });
});

describe('a writer that refuses a change for good', () => {
  it('is reported once, and nothing is sent any more', async () => {
    const { queue, writer, refusals } = openQueue();
    writer.answer = () => Promise.reject(new BoxRunError('CANCELED', 'generation 1 is over'));
    queue.push(insertExec());
    await eventually('the refusal is reported', () => refusals.length === 1);
    for (let seq = 0; seq < 10; seq++) {
      queue.push(addEvent('exec_a', logEvent(seq)));
      await settle(1);
    }
    expect(refusals.map(({ code }) => code)).toEqual(['CANCELED']);
    expect(writer.batches).toHaveLength(1);
  });
});

describe('the room in the queue', () => {
  it('is used up at the limit of unacknowledged bytes, and comes back with the acknowledgement', async () => {
    const { queue, writer } = openQueue();
    const gate = controlledPromise<undefined>();
    writer.answer = () => gate.promise;
    let seq = 0;
    while (queue.hasRoom) queue.push(outputEvent(seq++, limits.eventBytesMax));
    expect(seq * limits.eventBytesMax).toBeLessThanOrEqual(limits.unackedBytesMax + limits.eventBytesMax);
    let room = false;
    const waiting = queue.room().then(() => {
      room = true;
    });
    await settle(10);
    expect(room).toBe(false);
    gate.resolve(undefined);
    await waiting;
    expect(queue.hasRoom).toBe(true);
  });

  it('is there at once below the limit', async () => {
    const { queue } = openQueue();
    expect(queue.hasRoom).toBe(true);
    await queue.room();
  });
});
