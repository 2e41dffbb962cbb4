// The writer as its clients see it, over its socket: acknowledged is committed, followers hear only of what is
// committed.
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  noWriterNotices,
  writerContract,
  type Event,
  type StateEvent,
  type WriterContract,
} from '../../../src/shared/contracts/writer.ts';
import { connectContract, type ServerPeer } from '../../../src/shared/ipc/client.ts';
import type { ClientPeer } from '../../../src/shared/ipc/server.ts';
import { limits } from '../../../src/shared/limits.ts';
import { openReader } from '../../../src/shared/store/reader.ts';
import { createFollowers } from '../../../src/writer/followers.ts';
import { eventually } from '../../support/runs/eventually.ts';
import {
  addEvent,
  boxRow,
  execRow,
  finishExec,
  insertExec,
  logEvent,
  serveWriter,
  type ServedWriter,
} from './setup.ts';

const boxId = boxRow().id;
const execId = execRow().id;

interface Follower {
  readonly peer: ServerPeer<WriterContract>;
  readonly heard: { execId: string; events: Event[] }[];
  readonly lagged: string[];
  readonly states: { run: string; events: StateEvent[] }[];
}

async function connect(
  { socketPath }: ServedWriter,
  hello: Parameters<typeof connectContract<WriterContract>>[0]['hello'],
): Promise<Follower> {
  const heard: Follower['heard'] = [];
  const lagged: string[] = [];
  const states: Follower['states'] = [];
  const peer = await connectContract({
    path: socketPath,
    contract: writerContract,
    hello,
    notices: {
      ...noWriterNotices,
      events: (notice) => heard.push(notice),
      lagged: (notice) => lagged.push(notice.execId),
      states: (notice) => states.push(notice),
    },
  });
  onTestFinished(() => {
    peer.close('the test is over');
  });
  return { peer, heard, lagged, states };
}

const supervisor = { role: 'supervisor' } as const;
const gateway = { role: 'gateway' } as const;
const worker = (generation = 1) => ({ role: 'worker', boxId, generation }) as const;

async function serveWithBox(): Promise<ServedWriter> {
  const writer = await serveWriter();
  const { peer } = await connect(writer, supervisor);
  await peer.request('insertBox', { box: boxRow() });
  return writer;
}

describe('a worker', () => {
  it('has its changes committed when they are acknowledged', async () => {
    const writer = await serveWithBox();
    const { peer } = await connect(writer, worker());
    await peer.request('changeExecs', { changes: [insertExec(), addEvent(execId, logEvent(0)), finishExec(execId)] });
    const reader = openReader(writer.path);
    expect(reader.exec(boxId, execId)).toMatchObject({ status: 'succeeded', exit_code: 0, cmd: ['echo', 'ü'] });
    expect(reader.events(execId, -1).events.map(({ seq, data }) => [seq, String(data)])).toEqual([[0, 'line 0']]);
    reader.close();
  });

  it('of an old lease is refused with CANCELED, and nothing of what it sent is there', async () => {
    const writer = await serveWithBox();
    const { peer } = await connect(writer, worker(1));
    const boss = await connect(writer, supervisor);
    await boss.peer.request('openLease', { boxId, generation: 2 });
    await expect(peer.request('changeExecs', { changes: [insertExec()] })).rejects.toMatchObject({ code: 'CANCELED' });
    expect(writer.value('SELECT count(*) FROM execs')).toBe(0);
  });

  it("whose batch is bad in one place has none of it committed, while another's goes through", async () => {
    const writer = await serveWithBox();
    const bad = await connect(writer, worker());
    const good = await connect(writer, worker());
    const outcomes = await Promise.allSettled([
      bad.peer.request('changeExecs', {
        changes: [insertExec({ id: 'exec_bad' }), addEvent('exec_missing', logEvent(0))],
      }),
      good.peer.request('changeExecs', { changes: [insertExec()] }),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
    expect(writer.rows('SELECT id FROM execs')).toEqual([{ id: execId }]);
  });

  it('alone may change execs', async () => {
    const writer = await serveWithBox();
    for (const hello of [supervisor, gateway, { role: 'keeper' } as const]) {
      const { peer } = await connect(writer, hello);
      await expect(peer.request('changeExecs', { changes: [insertExec()] })).rejects.toMatchObject({
        code: 'FORBIDDEN',
      });
    }
  });

  it('may send everything again: nothing is doubled', async () => {
    const writer = await serveWithBox();
    const changes = [insertExec(), addEvent(execId, logEvent(0)), addEvent(execId, logEvent(1)), finishExec(execId)];
    for (let time = 0; time < 3; time++) {
      const { peer } = await connect(writer, worker());
      await peer.request('changeExecs', { changes });
      peer.close('lost');
    }
    expect(writer.value('SELECT count(*) FROM execs')).toBe(1);
    expect(writer.value('SELECT count(*) FROM events')).toBe(2);
  });
});

describe('a follower', () => {
  it('hears every event after its follow, once, in order, and knows where history ends', async () => {
    const writer = await serveWithBox();
    const sender = await connect(writer, worker());
    await sender.peer.request('changeExecs', {
      changes: [insertExec(), addEvent(execId, logEvent(0)), addEvent(execId, logEvent(1))],
    });
    const follower = await connect(writer, gateway);
    expect(await follower.peer.request('follow', { execId })).toEqual({ lastSeq: 1 });
    await sender.peer.request('changeExecs', {
      changes: [addEvent(execId, logEvent(2)), addEvent(execId, logEvent(3))],
    });
    await sender.peer.request('changeExecs', { changes: [addEvent(execId, logEvent(4))] });
    await eventually('all events are heard', () => follower.heard.flatMap(({ events }) => events).length === 3);
    expect(
      follower.heard.flatMap(({ events }) => events.map(({ seq, data }) => [seq, Buffer.from(data).toString()])),
    ).toEqual([
      [2, 'line 2'],
      [3, 'line 3'],
      [4, 'line 4'],
    ]);
  });

  it('finds in the database whatever it hears of', async () => {
    const writer = await serveWithBox();
    const sender = await connect(writer, worker());
    await sender.peer.request('changeExecs', { changes: [insertExec()] });
    const reader = openReader(writer.path);
    const missing: number[] = [];
    let heard = 0;
    const peer = await connectContract({
      path: writer.socketPath,
      contract: writerContract,
      hello: gateway,
      notices: {
        ...noWriterNotices,
        events({ events }) {
          const stored = new Set(reader.events(execId, -1).events.map(({ seq }) => seq));
          missing.push(...events.map(({ seq }) => seq).filter((seq) => !stored.has(seq)));
          heard += events.length;
        },
      },
    });
    await peer.request('follow', { execId });
    await Promise.all(
      Array.from({ length: 200 }, (_, seq) =>
        sender.peer.request('changeExecs', { changes: [addEvent(execId, logEvent(seq))] }),
      ),
    );
    await eventually('all are heard', () => heard === 200);
    expect(missing).toEqual([]);
    peer.close('done');
    reader.close();
  });

  it('hears nothing of what was refused', async () => {
    const writer = await serveWithBox();
    const sender = await connect(writer, worker());
    const follower = await connect(writer, gateway);
    await sender.peer.request('changeExecs', { changes: [insertExec()] });
    await follower.peer.request('follow', { execId });
    const bad = [addEvent(execId, logEvent(0)), addEvent('exec_missing', logEvent(0))];
    await expect(sender.peer.request('changeExecs', { changes: bad })).rejects.toThrow();
    await sender.peer.request('changeExecs', { changes: [addEvent(execId, logEvent(0, 'the right one'))] });
    await eventually('it is heard', () => follower.heard.length === 1);
    expect(Buffer.from(follower.heard[0]?.events[0]?.data ?? []).toString()).toBe('the right one');
  });

  it('hears the exit of a command that ends with its lease', async () => {
    const writer = await serveWithBox();
    const sender = await connect(writer, worker());
    await sender.peer.request('changeExecs', { changes: [insertExec(), addEvent(execId, logEvent(0))] });
    const follower = await connect(writer, gateway);
    await follower.peer.request('follow', { execId });
    const boss = await connect(writer, supervisor);
    expect(await boss.peer.request('closeLease', { boxId, generation: 1, reason: 'worker exited' })).toEqual({
      ended: [execId],
    });
    await eventually('it is heard', () => follower.heard.length === 1);
    expect(follower.heard[0]).toMatchObject({ execId, events: [{ seq: 1, type: 'exit' }] });
  });

  it('hears nothing more after unfollow, and nothing of other commands', async () => {
    const writer = await serveWithBox();
    const sender = await connect(writer, worker());
    await sender.peer.request('changeExecs', { changes: [insertExec(), insertExec({ id: 'exec_other' })] });
    const follower = await connect(writer, gateway);
    await follower.peer.request('follow', { execId });
    await sender.peer.request('changeExecs', { changes: [addEvent('exec_other', logEvent(0))] });
    await follower.peer.request('unfollow', { execId });
    await sender.peer.request('changeExecs', { changes: [addEvent(execId, logEvent(0))] });
    await follower.peer.request('unfollow', { execId });
    expect(follower.heard).toEqual([]);
  });
});

describe('a follower that takes nothing', () => {
  function fakePeer(buffered: () => number) {
    const said: string[] = [];
    const peer: ClientPeer<WriterContract> = {
      hello: gateway,
      closed: new Promise(() => undefined),
      notify: (name) => said.push(name),
      bufferedBytes: buffered,
      close: () => undefined,
    };
    return { peer, said };
  }

  it('is told once that it lags and then left alone, while others go on; it may follow again', () => {
    const followers = createFollowers();
    let backlog = 0;
    const slow = fakePeer(() => backlog);
    const quick = fakePeer(() => 0);
    followers.add(execId, slow.peer);
    followers.add(execId, quick.peer);
    followers.publish(execId, [logEvent(0)]);
    backlog = limits.followerBufferBytesMax + 1;
    for (const seq of [1, 2, 3]) followers.publish(execId, [logEvent(seq)]);
    expect(slow.said).toEqual(['events', 'lagged']);
    expect(quick.said).toEqual(['events', 'events', 'events', 'events']);
    backlog = 0;
    followers.add(execId, slow.peer);
    followers.publish(execId, [logEvent(4)]);
    expect(slow.said).toEqual(['events', 'lagged', 'events']);
  });

  it('is forgotten with its connection, for every command it followed', () => {
    const followers = createFollowers();
    const gone = fakePeer(() => 0);
    followers.add('exec_1', gone.peer);
    followers.add('exec_2', gone.peer);
    followers.removePeer(gone.peer);
    followers.publish('exec_1', [logEvent(0)]);
    followers.publish('exec_2', [logEvent(0)]);
    expect(gone.said).toEqual([]);
  });
});

describe('removing a box', () => {
  it('of many events does not keep others from writing meanwhile', async () => {
    const writer = await serveWithBox();
    writer.statements.changeExec(insertExec());
    writer.db.transaction(() => {
      for (let seq = 0; seq < limits.deleteSliceRows * 3; seq++)
        writer.statements.changeExec(addEvent(execId, logEvent(seq, '')));
    })();
    const boss = await connect(writer, supervisor);
    const order: string[] = [];
    await Promise.all([
      boss.peer.request('removeBox', { boxId }).then(() => order.push('removed')),
      boss.peer.request('insertBox', { box: boxRow({ id: 'box_new' }) }).then(() => order.push('inserted')),
    ]);
    expect(order).toEqual(['inserted', 'removed']);
    expect(writer.value('SELECT count(*) FROM events')).toBe(0);
    expect(writer.rows('SELECT id FROM boxes')).toEqual([{ id: 'box_new' }]);
  });
});
