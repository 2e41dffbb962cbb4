// Tests the writer through its socket, with real clients. An acknowledged change is committed, and followers get only
// committed events.
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

describe('a worker that sends changes', () => {
  it('has them committed when they are acknowledged', async () => {
    const writer = await serveWithBox();
    const { peer } = await connect(writer, worker());
    await peer.request('changeExecs', { changes: [insertExec(), addEvent(execId, logEvent(0)), finishExec(execId)] });
    const reader = openReader(writer.path);
    expect(reader.exec(boxId, execId)).toMatchObject({ status: 'succeeded', exit_code: 0, cmd: ['echo', 'ü'] });
    expect(reader.events(execId, -1).events.map(({ seq, data }) => [seq, String(data)])).toEqual([[0, 'line 0']]);
    reader.close();
  });

  it('is refused with CANCELED if its lease is old, and nothing of it is stored', async () => {
    const writer = await serveWithBox();
    const { peer } = await connect(writer, worker(1));
    const supervising = await connect(writer, supervisor);
    await supervising.peer.request('openLease', { boxId, generation: 2 });
    await expect(peer.request('changeExecs', { changes: [insertExec()] })).rejects.toMatchObject({ code: 'CANCELED' });
    expect(writer.value('SELECT count(*) FROM execs')).toBe(0);
  });

  it('has no change of a batch committed if one is bad, but other workers have theirs committed', async () => {
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

  it('is the only client that may change commands', async () => {
    const writer = await serveWithBox();
    for (const hello of [supervisor, gateway, { role: 'keeper' } as const]) {
      const { peer } = await connect(writer, hello);
      await expect(peer.request('changeExecs', { changes: [insertExec()] })).rejects.toMatchObject({
        code: 'FORBIDDEN',
      });
    }
  });

  it('may send everything again without doubling anything', async () => {
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
  it('gets every event after its follow once and in order, and learns where the history ends', async () => {
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

  it('finds each event that it gets in the database', async () => {
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

  it('gets nothing of a refused change', async () => {
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

  it('gets the exit of a command that ends with its lease', async () => {
    const writer = await serveWithBox();
    const sender = await connect(writer, worker());
    await sender.peer.request('changeExecs', { changes: [insertExec(), addEvent(execId, logEvent(0))] });
    const follower = await connect(writer, gateway);
    await follower.peer.request('follow', { execId });
    const supervising = await connect(writer, supervisor);
    expect(await supervising.peer.request('closeLease', { boxId, generation: 1, reason: 'worker exited' })).toEqual({
      ended: [execId],
    });
    await eventually('it is heard', () => follower.heard.length === 1);
    expect(follower.heard[0]).toMatchObject({ execId, events: [{ seq: 1, type: 'exit' }] });
  });

  it('gets nothing more after unfollow, and nothing of other commands', async () => {
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

describe('a follower that reads nothing', () => {
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

  it('is told once that it lags and then gets nothing, does not delay others, and may follow again', () => {
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

  it('is removed with its connection, for every command that it followed', () => {
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

describe('removing a box from the database', () => {
  it('lets other changes pass if the box has many events', async () => {
    const writer = await serveWithBox();
    writer.statements.changeExec(insertExec());
    writer.db.transaction(() => {
      for (let seq = 0; seq < limits.deleteSliceRows * 3; seq++)
        writer.statements.changeExec(addEvent(execId, logEvent(seq, '')));
    })();
    const supervising = await connect(writer, supervisor);
    const order: string[] = [];
    await Promise.all([
      supervising.peer.request('removeBox', { boxId }).then(() => order.push('removed')),
      supervising.peer.request('insertBox', { box: boxRow({ id: 'box_new' }) }).then(() => order.push('inserted')),
    ]);
    expect(order).toEqual(['inserted', 'removed']);
    expect(writer.value('SELECT count(*) FROM events')).toBe(0);
    expect(writer.rows('SELECT id FROM boxes')).toEqual([{ id: 'box_new' }]);
  });
});
