// Measures how many events per second the writer commits for 32 workers at once. The reference is a loop that inserts
// the same rows, as durably, with a thousand in a transaction. The messages are encoded before, so that only the writer
// is measured.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig, type Config } from '../../src/shared/settings/config.ts';
import { noWriterNotices, writerContract } from '../../src/shared/contracts/writer.ts';
import { newId } from '../../src/shared/ids.ts';
import { connectContract } from '../../src/shared/ipc/client.ts';
import { createFrameDecoder, encodeFrame } from '../../src/shared/ipc/frame.ts';
import { makeStateDirectories, statePaths } from '../../src/shared/settings/state-dir.ts';
import { toSql } from '../../src/shared/store/rows.ts';
import { compare, ratioAtLeast, type Context, type Round, type Suite } from '../support/measure.ts';
import { places } from '../support/places.ts';
import { boxRow, eventColumns, execRow, insertInto, openForWriting } from '../support/seed.ts';
import { profileVariables } from '../support/server.ts';

const workers = 32;
/** The number of events in one request of a busy worker (limits.commitOpsMax). */
const eventsPerRequest = 512;
const rowsPerTransaction = 1_000;
const timeoutMs = 60_000;

export const writer: Suite = {
  name: 'writer',
  async run(context) {
    const requestsEach = context.isShort ? 6 : 24;
    const stateDir = mkdtempSync(join(tmpdir(), 'boxrun-bench-'));
    const config = loadConfig({ stateDir }, {});
    makeStateDirectories(stateDir);
    const child = await startWriter(context, config);
    const keeper = await connectContract({
      path: statePaths(stateDir).writerSocket,
      contract: writerContract,
      hello: { role: 'keeper' },
      notices: noWriterNotices,
    });
    const bare = openForWriting(join(stateDir, 'bare.db'));
    const bareBox = newId('box');
    bare.prepare(insertInto('boxes', Object.keys(boxRow(bareBox)))).run(toSql(boxRow(bareBox)));
    const events = workers * requestsEach * eventsPerRequest;
    try {
      const measure = await compare({
        name: 'writer',
        unit: 'events/s',
        better: 'more',
        rounds: context.isShort ? 4 : 7,
        ours: async () => {
          const senders = await Promise.all(
            Array.from({ length: workers }, () => prepareSender(keeper, config, requestsEach)),
          );
          return timed(events, () => Promise.all(senders.map((send) => send())));
        },
        reference: async () =>
          timed(events, async () => {
            insertRows(bare, bareBox, requestsEach);
          }),
        goal: ratioAtLeast(0.6),
      });
      return [measure];
    } finally {
      bare.close();
      const exited = once(child, 'exit');
      keeper.close('measured');
      child.kill('SIGTERM');
      await exited;
      rmSync(stateDir, { recursive: true, force: true });
    }
  },
};

async function startWriter(context: Context, config: Config): Promise<ChildProcess> {
  const child = spawn(process.execPath, ['--no-warnings', join(places.dist, 'writer.js')], {
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      ...profileVariables(context),
      BOXRUN_ORDERS: JSON.stringify({ role: 'writer', config: { ...config, logLevel: 'error' }, workerId: null }),
    },
  });
  await once(child.stdio[3] as Socket, 'data'); // The first bytes say that the writer is ready.
  return child;
}

type Peer = Awaited<ReturnType<typeof connectContract<typeof writerContract>>>;

/**
 * Connects as a worker with its own box and command. The returned function sends the output of the command, one request
 * at a time.
 */
async function prepareSender(keeper: Peer, { stateDir }: Config, requests: number): Promise<() => Promise<void>> {
  const box = boxRow(newId('box'));
  const exec = { ...execRow(newId('exec'), box.id), generation: box.generation, status: 'running' as const };
  await keeper.request('insertBox', { box }, { timeoutMs });
  const socket = connect(statePaths(stateDir).writerSocket);
  const take = answersOf(socket);
  const hello = { role: 'worker', boxId: box.id, generation: box.generation };
  socket.write(encodeFrame(['hello', writerContract.name, writerContract.version, hello]));
  await take();
  const frames = Array.from({ length: requests }, (_, request) =>
    encodeFrame(['request', request + 2, 'changeExecs', timeoutMs, { changes: changesOf(exec.id, request) }, null]),
  );
  socket.write(encodeFrame(['request', 1, 'changeExecs', timeoutMs, { changes: [{ op: 'insert', exec }] }, null]));
  await take();
  return async () => {
    for (const frame of frames) {
      socket.write(frame);
      const answer = await take();
      if (answer[0] !== 'result') throw new Error(`the writer refused: ${JSON.stringify(answer)}`);
    }
    socket.destroy();
  };
}

function answersOf(socket: Socket): () => Promise<readonly unknown[]> {
  const decode = createFrameDecoder();
  const received: (readonly unknown[])[] = [];
  let wake: () => void = () => undefined;
  socket.on('data', (piece: Buffer) => {
    received.push(...(decode(piece) as (readonly unknown[])[]));
    wake();
  });
  return async () => {
    while (received.length === 0)
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    return received.shift() ?? [];
  };
}

function changesOf(execId: string, request: number): unknown[] {
  return eventsOf(request).map((event) => ({ op: 'event', execId, event, at: new Date().toISOString() }));
}

function eventsOf(request: number) {
  return Array.from({ length: eventsPerRequest }, (_, index) => {
    const seq = request * eventsPerRequest + index;
    return { seq, type: 'log', stream: 'stdout', data: Buffer.from(`line ${seq} of the output of a test run\n`) };
  });
}

function insertRows(db: ReturnType<typeof openForWriting>, boxId: string, requestsEach: number): void {
  const insertExec = db.prepare(insertInto('execs', Object.keys(execRow('', ''))));
  const insert = db.prepare(insertInto('events', eventColumns));
  const begin = db.prepare('BEGIN IMMEDIATE');
  const commit = db.prepare('COMMIT');
  let open = 0;
  begin.run();
  for (let worker = 0; worker < workers; worker++) {
    const execId = newId('exec');
    insertExec.run(toSql(execRow(execId, boxId)));
    for (let request = 0; request < requestsEach; request++) {
      for (const { seq, type, stream, data } of eventsOf(request)) {
        insert.run({ exec_id: execId, seq, type, stream, data, created_at: new Date().toISOString() });
        open++;
        if (open % rowsPerTransaction !== 0) continue;
        commit.run();
        begin.run();
      }
    }
  }
  commit.run();
}

async function timed(events: number, work: () => Promise<unknown>): Promise<Round> {
  const startedAt = performance.now();
  await work();
  return { figure: events / ((performance.now() - startedAt) / 1000) };
}
