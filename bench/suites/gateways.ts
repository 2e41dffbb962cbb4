// Measures the effect of `--gateways N`: reads, commands and output streams of many clients at once, each with its own
// TCP connection. It runs only by name, because it has no reference. Clients, gateways and boxes share the processors
// of the host.
import { runExec } from '../support/execs.ts';
import { drainStream, openConnections } from '../support/http.ts';
import { median, single, throughput, type Context, type Measure, type Suite } from '../support/measure.ts';
import { seedBoxes, seedExec } from '../support/seed.ts';
import { withServer, type BenchServer } from '../support/server.ts';

const clients = 16;
const streams = 4;

export const gateways: Suite = {
  name: 'gateways',
  onlyByName: true,
  async run(context) {
    const measures: Measure[] = [];
    for (const count of [1, 2, 4]) measures.push(...(await measureGateways(context, count)));
    return measures;
  },
};

async function measureGateways(context: Context, count: number): Promise<Measure[]> {
  const events = context.isShort ? 50_000 : 200_000;
  let execPath = '';
  const seed = (dbPath: string) => {
    const [boxId = ''] = seedBoxes(dbPath, 100);
    execPath = `/v1/boxes/${boxId}/exec/${seedExec(dbPath, boxId, events)}/events`;
  };
  return withServer(context, { seed, args: ['--port', '0', '--gateways', String(count)] }, async (server) => {
    context.say(`${count} of them`);
    const port = server.port ?? 0;
    const list = await rounds(context, () => reads(port, '/v1/boxes?limit=100', context));
    const commands = await rounds(context, () => execs(server, port, context));
    const replayed = await rounds(context, async () => {
      const from = performance.now();
      await Promise.all(Array.from({ length: streams }, () => drainStream(port, execPath)));
      return (streams * events) / ((performance.now() - from) / 1000);
    });
    return [
      single(`gateways/${count}-list`, 'requests/s', list),
      single(`gateways/${count}-exec`, 'commands/s', commands),
      single(`gateways/${count}-replay`, 'events/s', replayed),
    ];
  });
}

/** Returns the median of several rounds. The first round does not count. */
async function rounds({ isShort }: Context, measure: () => Promise<number>): Promise<number> {
  const figures: number[] = [];
  for (let round = 0; round < (isShort ? 4 : 6); round++) figures.push(await measure());
  return median(figures.slice(1));
}

async function reads(port: number, path: string, context: Context): Promise<number> {
  return lanes(port, context, async (connection) => {
    const { status } = await connection.request('GET', path);
    if (status !== 200) throw new Error(`GET ${path}: ${status}`);
  });
}

async function execs(server: BenchServer, port: number, context: Context): Promise<number> {
  const { id } = await server.createBox();
  const figure = await lanes(port, context, (connection) => runExec(connection, id));
  await server.admin.request('DELETE', `/v1/boxes/${id}?force=true`);
  return figure;
}

type Connections = Awaited<ReturnType<typeof openConnections>>;

/** Uses new connections each time, because a connection belongs to one gateway. */
async function lanes(
  port: number,
  { isShort }: Context,
  work: (connection: Connections[number]) => Promise<void>,
): Promise<number> {
  const connections = await openConnections(port, clients);
  const { figure } = await throughput(clients, isShort ? 800 : 1_500, (lane) =>
    work(connections[lane] as Connections[number]),
  );
  for (const connection of connections) connection.close();
  return figure;
}
