// Measures reads over HTTP: a box, a command and a list of a hundred boxes. The reference is a bare fastify route that
// answers with the same object from memory.
import { join } from 'node:path';
import type { Exec } from '../../src/shared/api.ts';
import { withBareServer } from '../support/bare-server.ts';
import { callJson, openConnections, type Connection } from '../support/http.ts';
import { compare, ratioAtLeast, throughput, type Context, type Measure, type Suite } from '../support/measure.ts';
import { seedBoxes } from '../support/seed.ts';
import { withServer, type BenchServer } from '../support/server.ts';

const parallel = 16;

export const apiGet: Suite = {
  name: 'api-get',
  run: (context) =>
    withServer(
      context,
      {
        seed: (db) => {
          seedBoxes(db, 100);
        },
      },
      (server) => measureApiGet(context, server, 'api-get'),
    ),
};

export async function measureApiGet(context: Context, server: BenchServer, name: string): Promise<Measure[]> {
  const { id } = await server.createBox();
  const exec = await callJson<Exec>(server.admin, 'POST', `/v1/boxes/${id}/exec`, { cmd: ['/bin/true'] });
  const paths = { box: `/v1/boxes/${id}`, exec: `/v1/boxes/${id}/exec/${exec.id}`, list: '/v1/boxes?limit=100' };
  const objects: Record<string, unknown> = {};
  for (const path of Object.values(paths))
    objects[path.replace(/\?.*/, '')] = await callJson(server.admin, 'GET', path);
  const orders = { socketPath: join(server.stateDir, 'bare.sock'), objects, box: null, commands: {} };
  return withBareServer(orders, async () => {
    const ours = await openConnections(server.socketPath, parallel);
    const bare = await openConnections(orders.socketPath, parallel);
    const measures: Measure[] = [];
    for (const [what, path] of Object.entries(paths)) {
      context.say(what);
      measures.push(
        await compare({
          name: `${name}/${what}`,
          unit: 'requests/s',
          better: 'more',
          rounds: context.isShort ? 4 : 5,
          ours: () => requests(ours, path, context),
          reference: () => requests(bare, path, context),
          goal: ratioAtLeast(0.6),
        }),
      );
    }
    for (const connection of [...ours, ...bare]) connection.close();
    return measures;
  });
}

function requests(connections: readonly Connection[], path: string, { isShort }: Context) {
  return throughput(connections.length, isShort ? 700 : 1_500, async (lane) => {
    const answer = await connections[lane]?.request('GET', path);
    if (answer?.status !== 200) throw new Error(`GET ${path}: ${answer?.status ?? 'no connection'}`);
  });
}
