// Measures short commands: how many run per second, and how long one takes. The reference is `crun exec` in a bare
// loop, in the same boxes.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expectSuccess, runExec } from '../support/execs.ts';
import { openConnections } from '../support/http.ts';
import {
  compare,
  latency,
  median,
  ratioAtLeast,
  single,
  throughput,
  type Comparison,
  type Context,
  type Measure,
  type Suite,
} from '../support/measure.ts';
import { places } from '../support/places.ts';
import { createRawExec } from '../support/raw-exec.ts';
import { withServer, type BenchServer } from '../support/server.ts';

const command = ['/bin/true'];
/** After this number of commands a worker is warm, because V8 optimizes code that runs often (docs/performance.md). */
const firstCommands = 1_000;
const warmUp = { parallelPerBox: 4, leastParallel: 8, ms: { oneBox: 12_000, manyBoxes: 50_000 } };

export const execThroughput: Suite = {
  name: 'exec-throughput',
  run: (context) =>
    withServer(context, {}, async (server) => {
      const shapes = context.isShort
        ? [
            [8, 1],
            [32, 8],
          ]
        : [
            [1, 1],
            [8, 1],
            [32, 1],
            [1, 8],
            [8, 8],
            [32, 8],
          ];
      const boxes = await createBoxes(server, 8);
      const measures: Measure[] = context.isShort ? [] : [await measureNew(server, boxes[0] ?? '')];
      let warm = 0;
      for (const [parallel = 1, boxCount = 1] of shapes) {
        if (!context.isShort && boxCount > warm) {
          context.say(`warming up ${boxCount} boxes`);
          await warmedUp(server, boxes.slice(0, boxCount));
          warm = boxCount;
        }
        context.say(`${parallel} in parallel over ${boxCount} boxes`);
        measures.push(await compareThroughput(context, server, boxes.slice(0, boxCount), parallel));
      }
      return measures;
    }),
};

/** Measures the first commands of a new box, with a cold worker. */
async function measureNew(server: BenchServer, boxId: string): Promise<Measure> {
  const connections = await openConnections(server.socketPath, 8);
  let left = firstCommands;
  const startedAt = performance.now();
  await Promise.all(
    connections.map(async (connection) => {
      while (left-- > 0) await runExec(connection, boxId);
      connection.close();
    }),
  );
  return single('exec-throughput/8x1-new', 'commands/s', firstCommands / ((performance.now() - startedAt) / 1000));
}

async function warmedUp(server: BenchServer, boxes: readonly string[]): Promise<void> {
  const parallel = Math.max(warmUp.leastParallel, warmUp.parallelPerBox * boxes.length);
  const connections = await openConnections(server.socketPath, parallel);
  await throughput(parallel, boxes.length === 1 ? warmUp.ms.oneBox : warmUp.ms.manyBoxes, (lane) =>
    runExec(of(connections, lane), of(boxes, lane)),
  );
  for (const connection of connections) connection.close();
}

async function createBoxes(server: BenchServer, count: number): Promise<string[]> {
  const boxes: string[] = [];
  for (let index = 0; index < count; index++) boxes.push((await server.createBox()).id);
  return boxes;
}

/** Chooses the element for a lane. Lanes share the elements evenly. */
function of<T>(list: readonly T[], lane: number): T {
  return list[lane % list.length] as T;
}

async function compareThroughput(
  { isShort }: Context,
  server: BenchServer,
  boxes: readonly string[],
  parallel: number,
): Promise<Measure> {
  const connections = await openConnections(server.socketPath, parallel);
  const raw = await Promise.all(boxes.map((boxId) => createRawExec({ ...server, boxId })));
  const durationMs = isShort ? 1_200 : 1_500;
  const measure = await compare({
    name: `exec-throughput/${parallel}x${boxes.length}`,
    unit: 'commands/s',
    better: 'more',
    rounds: isShort ? 4 : 5,
    ours: () => throughput(parallel, durationMs, (lane) => runExec(of(connections, lane), of(boxes, lane))),
    reference: () =>
      throughput(parallel, durationMs, async (lane) => {
        expectSuccess(await of(raw, lane)(command));
      }),
    ...(parallel > 1 ? { goal: ratioAtLeast(3) } : {}),
  });
  for (const connection of connections) connection.close();
  return measure;
}

export const execLatency: Suite = {
  name: 'exec-latency',
  run: (context) =>
    withServer(context, {}, async (server) => [
      ...(await measureLatency(context, server, 'exec-latency')),
      ...(await pythonLatency(context, server)),
    ]),
};

/** Runs one command at a time. Compares the medians, and reports the extra time at p50 and p99. */
export async function measureLatency({ isShort }: Context, server: BenchServer, name: string): Promise<Measure[]> {
  const { id: boxId } = await server.createBox();
  const [connection] = await openConnections(server.socketPath, 1);
  if (connection === undefined) throw new Error('no connection');
  const raw = await createRawExec({ ...server, boxId });
  const count = isShort ? 60 : 100;
  const comparison: Comparison = {
    name: `${name}/p50`,
    unit: 'ms',
    better: 'less',
    rounds: isShort ? 4 : 6,
    ours: () => latency(count, () => runExec(connection, boxId)),
    reference: () =>
      latency(count, async () => {
        expectSuccess(await raw(command));
      }),
  };
  const measure = await compare(comparison);
  connection.close();
  return [measure, ...onTop(name, measure)];
}

function onTop(name: string, { percentiles }: Measure): Measure[] {
  if (percentiles?.reference === null || percentiles === null) return [];
  const { ours, reference } = percentiles;
  return (
    [
      ['p50', 2],
      ['p99', 5],
    ] as const
  ).map(([which, mostMs]) => {
    const extraMs = ours[which] - reference[which];
    return single(`${name}/on-top-${which}`, 'ms', extraMs, { text: `≤ ${mostMs}`, met: extraMs <= mostMs });
  });
}

/** Measures commands through the published Python SDK, if that is installed (scripts/setup-compat.sh). */
async function pythonLatency(context: Context, server: BenchServer): Promise<Measure[]> {
  if (!existsSync(places.python)) {
    context.say('the Python SDK is not installed; left out');
    return [];
  }
  const { id } = await server.createBox();
  const script = join(places.root, 'bench/references/python-exec.py');
  const rounds = context.isShort ? 30 : 100;
  // The SDK looks for a server there.
  mkdirSync(join(server.stateDir, '.boxrun'));
  symlinkSync(server.socketPath, join(server.stateDir, '.boxrun/boxrun.sock'));
  const env = { PATH: process.env['PATH'], HOME: server.stateDir };
  const ran = spawnSync(places.python, [script, id, String(rounds)], { env, encoding: 'utf8', timeout: 120_000 });
  if (ran.status !== 0) throw new Error(`the Python SDK failed: ${ran.stderr}`);
  const samples = JSON.parse(ran.stdout) as number[];
  return [single('exec-latency/python-sdk', 'ms', median(samples))];
}
