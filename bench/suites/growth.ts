// Measures how a large database slows down commands, reads and replay. A server with 10,000 boxes and millions of
// events is compared with a server with an empty database, which runs at the same time.
import type { Exec } from '../../src/shared/api.ts';
import { runExec } from '../support/execs.ts';
import { callJson, drainStream, openConnections } from '../support/http.ts';
import { compare, latency, throughput, type Context, type Measure, type Side, type Suite } from '../support/measure.ts';
import { seedBoxes, seedExec } from '../support/seed.ts';
import { withServer, type BenchServer } from '../support/server.ts';

/** A large database may be slower by at most this factor. */
const goalFactor = 1.3;
const parallel = 16;

export const growth: Suite = {
  name: 'growth',
  run(context) {
    const size = context.isShort
      ? { boxes: 2_000, execs: 10, events: 20_000 }
      : { boxes: 10_000, execs: 50, events: 100_000 };
    const replayed = context.isShort ? 20_000 : 100_000;
    const paths = { grown: '', empty: '' };
    const seed = (which: keyof typeof paths, boxes: number, execs: number) => (dbPath: string) => {
      const [first = ''] = seedBoxes(dbPath, boxes);
      for (let index = 0; index < execs; index++) seedExec(dbPath, first, size.events);
      paths[which] = `/v1/boxes/${first}/exec/${seedExec(dbPath, first, replayed)}/events`;
    };
    const args = ['--workers', '1', '--max-boxes', '20000'];
    context.say(`filling a database with ${size.boxes} boxes and ${size.execs * size.events} events`);
    return withServer(context, { args, seed: seed('grown', size.boxes, size.execs) }, (grown) =>
      withServer(context, { args, seed: seed('empty', 1, 0) }, async (empty) => [
        await compareCommands(context, grown, empty),
        ...(await compareReads(context, grown, empty)),
        await compared(
          context,
          'growth/replay',
          'ms',
          'less',
          (server) =>
            latency(1, async () => {
              await drainStream(server.socketPath, server === grown ? paths.grown : paths.empty);
            }),
          grown,
          empty,
        ),
      ]),
    );
  },
};

function compared(
  { isShort }: Context,
  name: string,
  unit: string,
  better: 'more' | 'less',
  measure: (server: BenchServer) => ReturnType<Side>,
  grown: BenchServer,
  empty: BenchServer,
): Promise<Measure> {
  return compare({
    name,
    unit,
    better,
    rounds: isShort ? 3 : 5,
    ours: () => measure(grown),
    reference: () => measure(empty),
    goal: ({ ratio }) => ({ text: `≤ ${goalFactor} ×`, met: 1 / (ratio ?? 0) <= goalFactor }),
  });
}

async function compareCommands(context: Context, grown: BenchServer, empty: BenchServer): Promise<Measure> {
  const boxes = new Map([
    [grown, (await grown.createBox()).id],
    [empty, (await empty.createBox()).id],
  ]);
  return compared(
    context,
    'growth/exec-latency',
    'ms',
    'less',
    (server) => latency(context.isShort ? 40 : 80, () => runExec(server.admin, boxes.get(server) ?? '')),
    grown,
    empty,
  );
}

async function compareReads(context: Context, grown: BenchServer, empty: BenchServer): Promise<Measure[]> {
  const paths = new Map<BenchServer, { box: string; exec: string }>();
  for (const server of [grown, empty]) {
    const { id } = await server.createBox();
    const exec = await callJson<Exec>(server.admin, 'POST', `/v1/boxes/${id}/exec`, { cmd: ['/bin/true'] });
    paths.set(server, { box: `/v1/boxes/${id}`, exec: `/v1/boxes/${id}/exec/${exec.id}` });
  }
  const measures: Measure[] = [];
  for (const what of ['box', 'exec'] as const) {
    const connections = new Map([
      [grown, await openConnections(grown.socketPath, parallel)],
      [empty, await openConnections(empty.socketPath, parallel)],
    ]);
    measures.push(
      await compared(
        context,
        `growth/get-${what}`,
        'requests/s',
        'more',
        (server) =>
          throughput(parallel, context.isShort ? 500 : 1_000, async (lane) => {
            const answer = await connections.get(server)?.[lane]?.request('GET', paths.get(server)?.[what] ?? '');
            if (answer?.status !== 200) throw new Error(`GET ${what}: ${answer?.status ?? 'no connection'}`);
          }),
        grown,
        empty,
      ),
    );
    for (const connection of [...connections.values()].flat()) connection.close();
  }
  return measures;
}
