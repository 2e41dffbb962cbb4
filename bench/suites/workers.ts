// Measures the effect of `--workers N`: the time of one create, and of eight at once, with N spare workers. It runs
// only by name, because it has no reference.
import type { Box } from '../../src/shared/api.ts';
import { callJson, openConnections } from '../support/http.ts';
import { median, single, type Context, type Measure, type Suite } from '../support/measure.ts';
import { smallBox, sparesAreReady, withServer, type BenchServer } from '../support/server.ts';

const together = 8;

export const workers: Suite = {
  name: 'workers',
  onlyByName: true,
  async run(context) {
    const measures: Measure[] = [];
    for (const count of [0, 1, 2, 4, 8]) {
      measures.push(
        ...(await withServer(context, { args: ['--workers', String(count)] }, (server) =>
          measureSpares(context, server, count),
        )),
      );
    }
    return measures;
  },
};

async function measureSpares({ isShort }: Context, server: BenchServer, count: number): Promise<Measure[]> {
  const rounds = isShort ? 3 : 7;
  await createTogether(server, count, 1);
  const one: number[] = [];
  const eight: number[] = [];
  for (let round = 0; round < rounds; round++) {
    one.push(await createTogether(server, count, 1));
    eight.push(await createTogether(server, count, together));
  }
  return [
    single(`workers/${count}-one-create`, 'ms', median(one)),
    single(`workers/${count}-eight-creates`, 'ms', median(eight)),
  ];
}

/** Creates boxes at once and removes them again. Returns the milliseconds until the last box runs. */
async function createTogether(server: BenchServer, spares: number, boxes: number): Promise<number> {
  await sparesAreReady(server, spares);
  const connections = await openConnections(server.socketPath, boxes);
  const startedAt = performance.now();
  const made = await Promise.all(
    connections.map((connection) => callJson<Box>(connection, 'POST', '/v1/boxes', smallBox)),
  );
  const elapsedMs = performance.now() - startedAt;
  await Promise.all(
    connections.map((connection, index) =>
      callJson(connection, 'DELETE', `/v1/boxes/${made[index]?.id ?? ''}?force=true`),
    ),
  );
  for (const connection of connections) connection.close();
  return elapsedMs;
}
