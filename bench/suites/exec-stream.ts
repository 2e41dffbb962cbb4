// Measures much output of one command, from the box to a client: 256 MB in large pieces, and a million lines with one
// write for each. The reference is a bare server that encodes the same output as events and stores nothing.
import { join } from 'node:path';
import type { Exec } from '../../src/shared/api.ts';
import { withBareServer } from '../support/bare-server.ts';
import { callJson, drainStream } from '../support/http.ts';
import { compare, ratioAtLeast, type Measure, type Round, type Suite } from '../support/measure.ts';
import { runExec } from '../support/execs.ts';
import { withServer } from '../support/server.ts';

interface Stream {
  readonly name: string;
  readonly unit: string;
  /** The amount of output in `unit`, without the "per second". */
  readonly amount: number;
  readonly leastBytes: number;
  readonly cmd: readonly string[];
}

const bigFile = '/root/big';

export const execStream: Suite = {
  name: 'exec-stream',
  run: (context) =>
    withServer(context, {}, async (server) => {
      const { id: boxId } = await server.createBox({ memory_mb: 1024, disk_size_gb: 2 });
      const megabytes = context.isShort ? 64 : 256;
      const lines = context.isShort ? 200_000 : 1_000_000;
      await runExec(server.admin, boxId, [
        'sh',
        '-c',
        `yes 'a line of text of eighty characters, as a compiler or a test run may well print it..' | head -c ${megabytes}000000 >${bigFile}`,
      ]);
      const streams: Stream[] = [
        { name: 'bytes', unit: 'MB/s', amount: megabytes, leastBytes: megabytes * 1e6, cmd: ['cat', bigFile] },
        {
          name: 'lines',
          unit: 'lines/s',
          amount: lines,
          leastBytes: lines * 6,
          cmd: ['awk', `BEGIN { for (i = 1; i <= ${lines}; i++) { print "line " i; fflush() } }`],
        },
      ];
      const orders = {
        socketPath: join(server.stateDir, 'bare.sock'),
        objects: {},
        box: { boxId, instanceId: server.instanceId, stateDir: server.stateDir },
        commands: Object.fromEntries(streams.map(({ name, cmd }) => [name, cmd])),
      };
      return withBareServer(orders, async () => {
        const measures: Measure[] = [];
        for (const stream of streams) {
          context.say(stream.name);
          measures.push(
            await compare({
              name: `exec-stream/${stream.name}`,
              unit: stream.unit,
              better: 'more',
              rounds: context.isShort ? 3 : 5,
              ours: () =>
                timed(stream, async () => {
                  const path = `/v1/boxes/${boxId}/exec`;
                  const { id } = await callJson<Exec>(server.admin, 'POST', path, { cmd: stream.cmd });
                  return drainStream(server.socketPath, `${path}/${id}/events`);
                }),
              reference: () => timed(stream, () => drainStream(orders.socketPath, `/stream/${stream.name}`)),
              goal: ratioAtLeast(0.5),
            }),
          );
        }
        return measures;
      });
    }),
};

async function timed({ name, amount, leastBytes }: Stream, drain: () => Promise<number>): Promise<Round> {
  const startedAt = performance.now();
  const bytes = await drain();
  if (bytes < leastBytes) throw new Error(`${name}: only ${bytes} bytes came`);
  return { figure: amount / ((performance.now() - startedAt) / 1000) };
}
