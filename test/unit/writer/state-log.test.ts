// Tests the log of state events, by itself and through a writer: what it keeps and for how long, who gets it, and which
// requests to the writer add to it.
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Box } from '../../../src/shared/api.ts';
import {
  noWriterNotices,
  writerContract,
  type StateEvent,
  type StatePosition,
  type WriterContract,
} from '../../../src/shared/contracts/writer.ts';
import { connectContract } from '../../../src/shared/ipc/client.ts';
import type { ClientPeer } from '../../../src/shared/ipc/server.ts';
import { limits } from '../../../src/shared/limits.ts';
import { createStateLog, type StateLog } from '../../../src/writer/state-log.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { addEvent, boxRow, execRow, finishExec, insertExec, logEvent, serveWriter } from './setup.ts';

const boxId = boxRow().id;
const execId = execRow().id;
const box = (name: string) => ({ ...boxRow(), name }) as unknown as Box;

function recordMany(log: StateLog, count: number, name = 'a'): void {
  for (let index = 0; index < count; index++) log.record([{ kind: 'box.changed', box: box(name) }]);
}

/** All events after `position`, page by page. */
function readAll(log: StateLog, position: StatePosition): number[] {
  const seqs: number[] = [];
  for (let page = log.after(position); ; page = log.after(page.position)) {
    expect(page.isGap).toBe(false);
    seqs.push(...page.events.map(({ seq }) => seq));
    if (!page.more) return seqs;
  }
}

function fakePeer(backlog: () => number = () => 0) {
  const said: { name: string; events: number[] }[] = [];
  const peer = {
    hello: { role: 'gateway' },
    closed: new Promise(() => undefined),
    notify: (name: string, payload: { events?: readonly StateEvent[] }) =>
      said.push({ name, events: (payload.events ?? []).map(({ seq }) => seq) }),
    bufferedBytes: backlog,
    close: () => undefined,
  } as unknown as ClientPeer<WriterContract>;
  return { peer, said };
}

describe('the log of state events', () => {
  it('gives the events after a position, and the next position', () => {
    const log = createStateLog();
    const start = log.after(null);
    expect(start).toMatchObject({ position: { seq: 0 }, events: [], more: false, isGap: false });
    log.record([
      { kind: 'box.created', box: box('a') },
      { kind: 'box.removed', box: box('b') },
    ]);
    const page = log.after(start.position);
    expect(page.events.map(({ seq, kind, json }) => [seq, kind, (JSON.parse(json) as { box: Box }).box.name])).toEqual([
      [1, 'box.created', 'a'],
      [2, 'box.removed', 'b'],
    ]);
    expect(log.after(page.position)).toMatchObject({ events: [], more: false, isGap: false });
    expect(readAll(log, { ...start.position, seq: 1 })).toEqual([2]);
  });

  it('reports a gap for positions that it no longer keeps, and for positions of another log', () => {
    const log = createStateLog();
    const { position } = log.after(null);
    recordMany(log, limits.statesKeptMax + 10);
    const last = limits.statesKeptMax + 10;
    expect(log.after({ ...position, seq: 9 })).toEqual({
      position: { ...position, seq: last },
      events: [],
      more: false,
      isGap: true,
    });
    expect(readAll(log, { ...position, seq: 10 })).toHaveLength(limits.statesKeptMax);
    expect(log.after({ ...position, seq: last + 1 }).isGap).toBe(true);
    expect(log.after({ run: 'another', seq: last }).isGap).toBe(true);
    expect(createStateLog().after(position).isGap).toBe(true);
  });

  it('keeps a limited number of characters, and gives long events in pages', () => {
    const log = createStateLog();
    const { position } = log.after(null);
    recordMany(log, 100, 'x'.repeat(limits.replayPageBytes / 4));
    const oldest = 100 - Math.floor(limits.statesKeptCharsMax / (limits.replayPageBytes / 4 + 600));
    expect(log.after({ ...position, seq: oldest - 2 }).isGap).toBe(true);
    const page = log.after({ ...position, seq: oldest + 1 });
    expect(page).toMatchObject({ more: true, isGap: false });
    expect(page.events.length).toBeLessThanOrEqual(4);
    expect(readAll(log, { ...position, seq: 90 })).toEqual([91, 92, 93, 94, 95, 96, 97, 98, 99, 100]);
  });

  it('notifies its watchers, and removes one that reads nothing after it has told it so', () => {
    const log = createStateLog();
    let backlog = 0;
    const slow = fakePeer(() => backlog);
    const quick = fakePeer();
    log.watch(slow.peer);
    log.watch(quick.peer);
    recordMany(log, 1);
    backlog = limits.followerBufferBytesMax + 1;
    recordMany(log, 2);
    expect(slow.said.map(({ name }) => name)).toEqual(['states', 'statesLagged']);
    expect(quick.said.map(({ events }) => events)).toEqual([[1], [2], [3]]);
    log.unwatch(quick.peer);
    recordMany(log, 1);
    expect(quick.said).toHaveLength(3);
  });

  it('sends many long events in several messages', () => {
    const log = createStateLog();
    const { peer, said } = fakePeer();
    log.watch(peer);
    log.record(
      Array.from({ length: 6 }, () => ({
        kind: 'box.changed' as const,
        box: box('x'.repeat(limits.replayPageBytes / 2)),
      })),
    );
    expect(said.map(({ events }) => events)).toEqual([
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
  });
});

it('the log of state events gets every commit that clients can see once and in order, and no other', async () => {
  const writer = await serveWriter();
  const heard: [string, string][] = [];
  const connect = async (hello: Parameters<typeof connectContract<WriterContract>>[0]['hello']) => {
    const peer = await connectContract({
      path: writer.socketPath,
      contract: writerContract,
      hello,
      notices: {
        ...noWriterNotices,
        states: ({ events }) => {
          for (const { kind, json } of events) {
            const state = JSON.parse(json) as {
              box?: { status: string };
              exec?: { id: string; status: string; generation?: number };
            };
            expect(state.exec?.generation).toBeUndefined();
            heard.push([kind, state.box?.status ?? `${state.exec?.id} ${state.exec?.status}`]);
          }
        },
      },
    });
    onTestFinished(() => {
      peer.close('the test is over');
    });
    return peer;
  };
  const gateway = await connect({ role: 'gateway' });
  const supervisor = await connect({ role: 'supervisor' });
  const worker = await connect({ role: 'worker', boxId, generation: 1 });
  await gateway.request('watchStates', {});
  const row = boxRow({ status: 'creating' });
  for (let time = 0; time < 2; time++) await supervisor.request('insertBox', { box: row });
  await supervisor.request('updateBox', { boxId, change: { status: 'running', state: 'ready' } });
  await supervisor.request('updateBox', { boxId, change: { state: 'stopping' } }); // Clients do not see this change.
  const changes = [insertExec(), addEvent(execId, logEvent(0)), finishExec(execId)];
  for (let time = 0; time < 2; time++) await worker.request('changeExecs', { changes });
  const bad = [insertExec({ id: 'exec_refused' }), addEvent('exec_missing', logEvent(0))];
  await expect(worker.request('changeExecs', { changes: bad })).rejects.toThrow();
  await worker.request('changeExecs', { changes: [insertExec({ id: 'exec_lost' })] });
  await supervisor.request('closeLease', { boxId, generation: 1, reason: 'worker exited' });
  for (let time = 0; time < 2; time++) await supervisor.request('removeBox', { boxId });
  await eventually('all is heard', () => heard.length >= 7);
  expect(heard).toEqual([
    ['box.created', 'creating'],
    ['box.changed', 'running'],
    ['exec.started', `${execId} running`],
    ['exec.finished', `${execId} succeeded`],
    ['exec.started', 'exec_lost running'],
    ['exec.finished', 'exec_lost failed'],
    ['box.removed', 'running'],
  ]);
});
