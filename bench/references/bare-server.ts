// The reference for HTTP: a bare fastify server on a Unix socket, in its own process like the gateway. A route answers
// with a given object from memory, or with the output of a command in a box, encoded as BoxRun encodes it. It stores
// nothing.
import { once } from 'node:events';
import fastify from 'fastify';
import { encodeEvents } from '../../src/gateway/live/sse.ts';
import type { Event } from '../../src/shared/contracts/writer.ts';
import { exitEventData } from '../../src/shared/lifecycle/exec.ts';
import { createOutputBuffer } from '../../src/worker/output/output-buffer.ts';
import { createRawExec, type RawBox } from '../support/raw-exec.ts';

export interface BareServerOrders {
  readonly socketPath: string;
  /** The answer to GET, by path. */
  readonly objects: Readonly<Record<string, unknown>>;
  /** The box for the commands of GET /stream/NAME. */
  readonly box: RawBox | null;
  readonly commands: Readonly<Record<string, readonly string[]>>;
}

const orders = JSON.parse(process.env['BENCH_ORDERS'] ?? '') as BareServerOrders;
const app = fastify();
for (const [path, object] of Object.entries(orders.objects)) app.get(path, async () => object);
if (orders.box !== null) {
  const exec = await createRawExec(orders.box);
  app.get<{ Params: { name: string } }>('/stream/:name', async (request, reply) => {
    const { raw } = reply.hijack();
    raw.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    let waiting: Event[] = [];
    const output = createOutputBuffer({
      emit: (event) => {
        waiting.push(event);
      },
      bytesMax: Number.MAX_SAFE_INTEGER,
    });
    const send = (): Promise<void> | undefined => {
      const events = waiting;
      waiting = [];
      let isFull = false;
      for (const piece of encodeEvents(events, 'text')) isFull = !raw.write(piece);
      return isFull ? once(raw, 'drain').then(() => undefined) : undefined;
    };
    const exitCode = await exec(orders.commands[request.params.name] ?? [], (piece) => {
      output.write('stdout', piece);
      return send();
    });
    output.end(() => exitEventData({ exitCode, errorMessage: null, canceled: false }));
    await send();
    raw.end();
  });
}
await app.listen({ path: orders.socketPath });
process.stdout.write('ready\n');
process.on('SIGTERM', () => process.exit(0));
