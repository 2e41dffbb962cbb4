// Tests stops of boxes during uploads on a real server, many times and on a busy machine: each stop must end soon.
// `npm run test:stop-uploads` runs it.
import { spawn, type ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BoxRunError } from '../../src/sdk/index.ts';
import { statePaths } from '../../src/shared/settings/state-dir.ts';
import { createRandom } from '../support/runs/random.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

const tries = Number(process.env['BOXRUN_STOP_UPLOADS'] ?? 500);
/** The number of boxes that are stopped at the same time. Most of the time, each only waits. */
const boxesAtOnce = 3;
const seed = Number(process.env['BOXRUN_STOP_UPLOADS_SEED'] ?? 1);
/** A stop kills after 5 s. A stop that takes much longer than that hangs. */
const stopMsMax = 15_000;
const piece = new Uint8Array(64 * 1024).fill(120);

let server: TestServer;
let busy: ChildProcess[] = [];
beforeAll(async () => {
  server = await startServer();
  // These processes use the idle time of the processors, and end with this process.
  const args = ['--pdeathsig', 'KILL', '--', 'nice', process.execPath, '-e', 'for (;;) Math.sqrt(2);'];
  busy = [1, 2].map(() => spawn('setpriv', args, { stdio: 'ignore' }));
});
afterAll(async () => {
  for (const child of busy) child.kill('SIGKILL');
  await server.close();
});

/**
 * Sends pieces without an end. `begun` resolves after the given number of pieces, and `ended` resolves with the
 * outcome.
 */
function startUpload(box: string, path: string, pieces: number): { begun: Promise<void>; ended: Promise<string> } {
  let isBegun: () => void = () => undefined;
  const begun = new Promise<void>((resolve) => {
    isBegun = resolve;
  });
  async function* content(): AsyncGenerator<Uint8Array> {
    for (let sent = 0; ; sent++) {
      if (sent === pieces) isBegun();
      yield piece;
    }
  }
  const ended = server.client.upload(box, content(), path).then(
    () => 'the upload ended well',
    (error: unknown) => (error instanceof BoxRunError ? error.code : String(error)),
  );
  void ended.then(isBegun);
  return { begun, ended };
}

it(`a box is stopped during an upload ${tries} times, and each stop ends soon`, { timeout: 30 * 60_000 }, async () => {
  const random = createRandom(seed);
  const stopMs: number[] = [];
  const failures: string[] = [];
  let next = 0;
  const oneBox = async () => {
    const { id } = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    while (next < tries) {
      const index = next++;
      // One upload is in progress, and the other may be at any point.
      const uploads = [
        startUpload(id, '/root/one', random.below(200)),
        startUpload(id, '/root/other', random.below(20)),
      ];
      await uploads[0]?.begun;
      const startedAt = performance.now();
      const problem = await server.client.stopBox(id, index % 3 === 0 ? { graceS: 0 } : {}).then(
        () => null,
        (error: unknown) => String(error),
      );
      const tookMs = performance.now() - startedAt;
      stopMs.push(tookMs);
      const outcomes = await Promise.all(uploads.map(({ ended }) => ended));
      if (problem !== null || tookMs > stopMsMax || outcomes.some((outcome) => outcome !== 'BOX_NOT_RUNNING'))
        failures.push(`try ${index}: ${problem ?? 'stopped'} after ${Math.round(tookMs)} ms; ${outcomes.join(', ')}`);
      if (index % 50 === 0) process.stdout.write(`stop-uploads: try ${index}, ${failures.length} failed\n`);
      await server.client.startBox(id);
    }
  };
  await Promise.all(Array.from({ length: boxesAtOnce }, oneBox));
  const sorted = stopMs.sort((a, b) => a - b).map(Math.round);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
  process.stdout.write(
    `stop-uploads: ${tries} tries, stops in ms: median ${at(0.5)}, 99 % ${at(0.99)}, longest ${at(1)}\n`,
  );
  const log = await readFile(join(statePaths(server.stateDir).logsDir, 'workers.log'), 'utf8');
  const stuck = log.split('\n').filter((line) => line.includes('did not die'));
  expect({ failures, stuck }).toEqual({ failures: [], stuck: [] });
});
