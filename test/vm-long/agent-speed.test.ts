// Measures commands in a micro-VM over its agent and on the ordinary path, in one run, from the worker's driver. It
// prints the figures of docs/agent.md.
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { acceptStream, openStream, type ByteStream } from '../../src/shared/ipc/stream.ts';
import { receiveUpload, sendDownload } from '../../src/worker/files/box-files.ts';
import { createAndStart, makeBox, makeImage, request, run, stateDir, type TestBox } from '../vm/support/boxlite-box.ts';

const dir = stateDir();
afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

function median(times: number[]): number {
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? NaN;
}

async function readBytes(box: TestBox, bytes: number): Promise<number> {
  const handle = await box.driver.exec(request(['head', '-c', `${bytes}`, '/dev/zero']));
  handle.stderr.resume();
  let count = 0;
  for await (const piece of handle.stdout) count += (piece as Buffer).length;
  await handle.exit;
  return count;
}

/** The two ends of a stream between a gateway and a worker. */
async function openPair(): Promise<{ readonly client: ByteStream; readonly worker: ByteStream; close(): void }> {
  const path = join(dir, 'pair.sock');
  const server = createServer().listen(path);
  await once(server, 'listening');
  const accepted = once(server, 'connection').then(([socket]) => acceptStream(socket as Socket));
  const client = await openStream(path, 'token');
  const { stream: worker } = await accepted;
  return {
    client,
    worker,
    close() {
      client.close();
      worker.close();
      server.close();
    },
  };
}

/** Sends a file into the box and reads it back. Returns the milliseconds of both. */
async function copyFile({ driver }: TestBox, bytes: number): Promise<{ upload: number; download: number }> {
  const files = { driver, workdir: '/', handOver: null };
  const there = await openPair();
  const upload = await timed(async () => {
    const taken = receiveUpload(files, '/copied', there.worker);
    await there.client.send(Buffer.alloc(bytes, 'x'));
    await there.client.end();
    await taken;
  });
  there.close();
  const back = await openPair();
  const download = await timed(async () => {
    const sent = sendDownload(files, '/copied', back.worker).then(() => back.worker.end());
    let count = 0;
    for (let item = await back.client.next(); item !== null; item = await back.client.next())
      if ('bytes' in item) count += item.bytes.length;
    await sent;
    expect(count).toBe(bytes);
  });
  back.close();
  return { upload, download };
}

async function measure(agent: 'auto' | 'off', outputMb: number): Promise<Record<string, number>> {
  const box = makeBox(dir, `box_${agent}`, image, {}, { agent });
  await createAndStart(box);
  const first = await timed(() => run(box, ['true']));
  const single: number[] = [];
  for (let index = 0; index < 40; index += 1) single.push(await timed(() => run(box, ['true'])));
  const eight: number[] = [];
  for (let index = 0; index < 8; index += 1)
    eight.push(await timed(() => Promise.all(Array.from({ length: 8 }, () => run(box, ['true'])))));
  const outputMs = await timed(async () => {
    expect(await readBytes(box, outputMb * 1_000_000)).toBe(outputMb * 1_000_000);
  });
  const { upload, download } = await copyFile(box, outputMb * 1_000_000);
  await box.driver.remove();
  const rounded = { first, single: median(single), eight: median(eight), outputMs, upload, download };
  return Object.fromEntries(Object.entries(rounded).map(([name, ms]) => [name, Math.round(ms)]));
}

const image = await makeImage(dir, 'shell');
mkdirSync(join(dir, 'images'), { recursive: true });

it('starts commands several times as fast over the agent', async () => {
  const fast = await measure('auto', 20);
  const slow = await measure('off', Number(process.env['BOXRUN_SPEED_MB'] ?? 1));
  console.log({ withAgent: fast, withoutAgent: slow });
  // On a real host it is far more. This says only that the agent was used.
  expect((slow['eight'] ?? 0) / (fast['eight'] ?? 1)).toBeGreaterThan(2);
});
