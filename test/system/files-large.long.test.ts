// Tests large files and much output on a real server: every byte is correct, and no process of the server grows with
// the size. BOXRUN_TEST_LARGE_MB sets the size of the file, and BOXRUN_TEST_OUTPUT_MB that of the output (`npm run
// test:large`: 5 GiB and 200 MB). The test prints the peaks of memory.
import { createHash, randomBytes, type Hash } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { limits } from '../../src/shared/limits.ts';
import { peakMemoryMb } from '../support/host/processes.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

const fileMb = Number(process.env['BOXRUN_TEST_LARGE_MB'] ?? 64);
const outputMb = Number(process.env['BOXRUN_TEST_OUTPUT_MB'] ?? 40);
/** Enough time for a tenth of the speed that we measured. */
const timeoutMs = 120_000 + fileMb * 200;
let server: TestServer;
let box: string;

beforeAll(async () => {
  server = await startServer();
  box = (
    await server.client.create({ image: 'base', cpu: 2, memory_mb: 512, disk_size_gb: Math.ceil(fileMb / 1024) + 2 })
  ).id;
});
afterAll(async () => {
  await server.close();
});

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
/** The peak of the buffers in this process, which is the client, during an upload. */
let heldMb = 0;

/** Yields this many megabytes, each different, and adds them to the hash. */
async function* content(megabytes: number, hash: Hash): AsyncGenerator<Uint8Array> {
  const block = randomBytes(2 ** 20);
  for (let count = 0; count < megabytes; count++) {
    const piece = Buffer.from(block);
    piece.writeUInt32BE(count, 0);
    hash.update(piece);
    yield piece;
    if (count % 16 !== 15) continue;
    collectGarbage();
    heldMb = Math.max(heldMb, process.memoryUsage().arrayBuffers / 2 ** 20);
  }
}

async function expectLean(what: string, startedAt: number, megabytes: number): Promise<void> {
  const seconds = (performance.now() - startedAt) / 1000;
  const peaks = await peakMemoryMb(server.stateDir);
  console.log(
    `${what}: ${seconds.toFixed(1)} s, ${Math.round(megabytes / seconds)} MB/s; peaks in MB: ${JSON.stringify(peaks)}`,
  );
  for (const [role, peak] of Object.entries(peaks))
    expect(peak, `${role}, ${what}`).toBeLessThan(limits.processMemoryMbMax);
  expect(Object.keys(peaks).length).toBeGreaterThanOrEqual(5);
}

it(`a file of ${fileMb} MB is unchanged after upload and download`, { timeout: timeoutMs }, async () => {
  const sent = createHash('sha256');
  let startedAt = performance.now();
  await server.client.upload(box, content(fileMb, sent), '/data/large');
  await expectLean(`${fileMb} MB up`, startedAt, fileMb);
  expect(heldMb, 'the client').toBeLessThan(32);
  const received = createHash('sha256');
  let bytes = 0;
  startedAt = performance.now();
  const download = await server.client.download(box, '/data/large');
  expect(download.size).toBe(fileMb * 2 ** 20);
  for await (const piece of download.body) {
    received.update(piece);
    bytes += piece.byteLength;
  }
  await expectLean(`${fileMb} MB down`, startedAt, fileMb);
  expect(bytes).toBe(fileMb * 2 ** 20);
  expect(received.digest('hex')).toBe(sent.digest('hex'));
});

it(`${outputMb} MB of output are complete, live and in two replays at once`, { timeout: 180_000 }, async () => {
  const line = `${'0123456789abcdef'.repeat(6)}\n`;
  const total = outputMb * 1_000_000;
  const exec = await server.client.startExec(box, { cmd: ['sh', '-c', `yes ${line.trim()} | head -c ${total}`] });
  const whole = createHash('sha256');
  const blockLines = 10_000;
  for (let left = total; left > 0; left -= blockLines * line.length)
    whole.update(line.repeat(blockLines).slice(0, left));
  const wanted = whole.digest('hex');
  const follow = async () => {
    const hash = createHash('sha256');
    for await (const event of server.client.execEvents(exec)) if (event.type === 'log') hash.update(event.bytes);
    return hash.digest('hex');
  };
  let startedAt = performance.now();
  expect(await follow()).toBe(wanted);
  await expectLean(`${outputMb} MB of output live`, startedAt, outputMb);
  startedAt = performance.now();
  expect(await Promise.all([follow(), follow()])).toEqual([wanted, wanted]);
  await expectLean(`${outputMb} MB of output replayed twice at once`, startedAt, 2 * outputMb);
});
