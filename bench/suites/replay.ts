// Measures the replay of a million output events of an ended command. The reference is a loop that reads and encodes
// the same rows. The memory of the gateway must not grow with the number of events.
import { readFileSync } from 'node:fs';
import Database from 'better-sqlite3';
import { encodeEvents } from '../../src/gateway/live/sse.ts';
import { limits } from '../../src/shared/limits.ts';
import type { EventRow } from '../../src/shared/store/rows.ts';
import { drainStream } from '../support/http.ts';
import { compare, ratioAtLeast, single, type Context, type Measure, type Suite } from '../support/measure.ts';
import { seedBoxes, seedExec } from '../support/seed.ts';
import { withServer, type BenchServer } from '../support/server.ts';

const growthMostMb = 64;

export const replay: Suite = {
  name: 'replay',
  run(context) {
    const events = context.isShort ? 200_000 : 1_000_000;
    let execPath = '';
    const seed = (dbPath: string) => {
      const [boxId = ''] = seedBoxes(dbPath, 1);
      execPath = `/v1/boxes/${boxId}/exec/${seedExec(dbPath, boxId, events)}`;
    };
    return withServer(context, { seed, args: ['--workers', '0'] }, (server) =>
      measureReplay(context, server, { name: 'replay', execPath, events }),
    );
  },
};

export interface ReplayOf {
  readonly name: string;
  readonly execPath: string;
  readonly events: number;
}

export async function measureReplay(
  context: Context,
  server: BenchServer,
  { name, execPath, events }: ReplayOf,
): Promise<Measure[]> {
  const execId = execPath.split('/').at(-1) ?? '';
  const [gateway = 0] = await server.pids('gateway');
  const ours = () => rate(events, () => drainStream(server.socketPath, `${execPath}/events`));
  await ours();
  const memoryBefore = peakMb(gateway);
  const speed = await compare({
    name: `${name}/events`,
    unit: 'events/s',
    better: 'more',
    rounds: context.isShort ? 3 : 5,
    ours,
    reference: () => rate(events, async () => readAndEncode(server.config.dbPath, execId)),
    goal: ratioAtLeast(0.6),
  });
  const grownMb = peakMb(gateway) - memoryBefore;
  return [
    speed,
    single(`${name}/gateway-growth`, 'MB', grownMb, { text: `≤ ${growthMostMb}`, met: grownMb <= growthMostMb }),
  ];
}

async function rate(events: number, work: () => Promise<number>) {
  const startedAt = performance.now();
  await work();
  return { figure: events / ((performance.now() - startedAt) / 1000) };
}

function readAndEncode(dbPath: string, execId: string): number {
  const db = new Database(dbPath, { readonly: true });
  const rows = db.prepare('SELECT seq, type, stream, data FROM events WHERE exec_id = ? ORDER BY seq').iterate(execId);
  let bytes = 0;
  let page: EventRow[] = [];
  const encode = () => {
    for (const piece of encodeEvents(page, 'text')) bytes += piece.length;
    page = [];
  };
  for (const row of rows) {
    page.push(row as EventRow);
    if (page.length === limits.replayPageEvents) encode();
  }
  encode();
  db.close();
  return bytes;
}

function peakMb(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
}
