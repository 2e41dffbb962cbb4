// Measures the cost of a command and of an event inside the processes, in microseconds: each piece of code alone and
// warm, with tinybench. A hop is one step from process to process. Only `short-command-committed` includes the disk.
// Sockets and switches between processes are not measured.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Bench } from 'tinybench';
import { encodeEvents } from '../../src/gateway/live/sse.ts';
import { supervisorContract } from '../../src/shared/contracts/supervisor.ts';
import type { Event, ExecChange } from '../../src/shared/contracts/writer.ts';
import { newId } from '../../src/shared/ids.ts';
import { fits } from '../../src/shared/ipc/contract.ts';
import { createFrameDecoder, encodeFrame } from '../../src/shared/ipc/frame.ts';
import { parseWireMessage } from '../../src/shared/ipc/wire.ts';
import { createOutputBuffer } from '../../src/worker/output/output-buffer.ts';
import { prepareStatements } from '../../src/writer/statements.ts';
import { single, type Measure, type Suite } from '../support/measure.ts';
import { boxRow, execRow, openForWriting } from '../support/seed.ts';

const eventsInPage = 512;

export const hops: Suite = {
  name: 'hops',
  async run(context) {
    const directory = mkdtempSync(join(tmpdir(), 'boxrun-bench-'));
    const db = openForWriting(join(directory, 'hops.db'));
    const bench = new Bench({ time: context.isShort ? 200 : 600, warmupTime: 100 });
    addMessages(bench);
    addEvents(bench);
    addCommits(bench, db);
    try {
      await bench.run();
      return bench.tasks.map(({ name, result }) => microseconds(name, result));
    } finally {
      db.close();
      rmSync(directory, { recursive: true, force: true });
    }
  },
};

function microseconds(name: string, result: Bench['tasks'][number]['result']): Measure {
  if (!('latency' in result)) throw new Error(`${name}: ${result.state}`);
  return single(`hops/${name}`, 'µs', result.latency.p50 * 1000);
}

/** A message from the gateway to the supervisor. Messages to the worker and answers are similar. */
function addMessages(bench: Bench): void {
  const order = { box: newId('box'), body: { cmd: ['/bin/true'] } };
  const message = ['request', 1, 'startExec', 40_000, order, newId('exec')];
  const frame = encodeFrame(message);
  const decode = createFrameDecoder();
  bench.add('message-sent', () => {
    encodeFrame(message);
  });
  bench.add('message-received', () => {
    for (const value of decode(frame))
      if (parseWireMessage(value) === null || !fits(supervisorContract.requests.startExec.params, order))
        throw new Error('it does not fit');
  });
}

/** Events with 40 bytes each, in pages of 512. */
function addEvents(bench: Bench): void {
  const line = Buffer.from('line 12345 of the output of a test run.\n');
  const events = Array.from({ length: eventsInPage }, (_, seq): Event => ({
    seq,
    type: 'log',
    stream: 'stdout',
    data: line,
  }));
  const piece = Buffer.alloc(64 * 1024, line);
  bench.add('64-KiB-numbered', () => {
    createOutputBuffer({ emit: () => undefined, bytesMax: Infinity }).write('stdout', piece);
  });
  bench.add('512-events-encoded', () => {
    for (const piece of encodeEvents(events, 'text')) if (piece.length === 0) throw new Error('nothing encoded');
  });
}

/** One short command in its own transaction, as durable as in the writer: its row, its exit event and its end. */
function addCommits(bench: Bench, db: ReturnType<typeof openForWriting>): void {
  const statements = prepareStatements(db);
  const box = boxRow(newId('box'));
  statements.insertBox(box);
  const run = db.transaction((changes: readonly ExecChange[]) => {
    for (const change of changes) statements.changeExec(change);
  });
  bench.add('short-command-committed', () => {
    const exec = { ...execRow(newId('exec'), box.id), status: 'running' as const, finished_at: null, exit_code: null };
    const at = exec.created_at;
    run([
      { op: 'insert', exec },
      {
        op: 'event',
        execId: exec.id,
        event: { seq: 0, type: 'exit', stream: null, data: Buffer.from('{"exit_code":0}') },
        at,
      },
      { op: 'finish', execId: exec.id, status: 'succeeded', exitCode: 0, errorMessage: null, at },
    ]);
  });
}
