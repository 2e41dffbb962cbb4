// Tests uploads and downloads on a real server whose worker or gateway is killed in the middle. The client gets an
// error, the destination keeps its old content, and the next transfer succeeds.
import { createHash, randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { BoxRunError } from '../../src/sdk/index.ts';
import { collect, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { type Role } from '../support/host/processes.ts';

const pieceBytes = 256 * 1024;
let server: CrashServer;
let box: string;

beforeEach(async () => {
  server = await startCrashServer({ args: ['--workers', '0'] });
  box = (await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 })).id;
});
afterEach(async () => {
  await server.close();
});

async function shell(script: string): Promise<string> {
  return (await collect(server.client, await server.client.startExec(box, { cmd: ['sh', '-c', script] }))).stdout;
}
/** Like `shell`, but tries again while the server is not back yet. */
const shellAgain = (script: string) => eventually('commands run again', () => shell(script).catch(() => null), 30_000);

/** Uploads without end, kills a process of the server in the middle, and returns the error of the upload. */
async function killDuringUpload(role: Role): Promise<unknown> {
  let broken = false;
  const endless = async function* () {
    for (let sent = 0; !broken; sent += pieceBytes) {
      yield randomBytes(pieceBytes);
      if (sent === 8 * pieceBytes) {
        await eventually('the upload has begun', async () => (await shell('ps')).includes('files 1 write'));
        await server.kill(role, role === 'worker' ? box : undefined);
      }
    }
  };
  const outcome = await server.client.upload(box, endless(), '/data/file').then(
    () => null,
    (error: unknown) => error,
  );
  broken = true;
  return outcome;
}

for (const role of ['worker', 'gateway'] as const) {
  it(`an upload fails with UNAVAILABLE when the ${role} is killed, and the old file stays`, async () => {
    await server.client.upload(box, Buffer.from('before'), '/data/file');
    const startedAt = performance.now();
    const outcome = await killDuringUpload(role);
    expect(performance.now() - startedAt).toBeLessThan(20_000); // The client notices it at once.
    expect(outcome).toBeInstanceOf(BoxRunError);
    expect(outcome).toMatchObject({ code: 'UNAVAILABLE' });
    expect(await shellAgain('cat /data/file')).toBe('before');
    await eventually('no temporary file is left', async () => (await shellAgain('ls -A /data')) === 'file\n');
    const content = randomBytes(1_000_000);
    await server.client.upload(box, content, '/data/file');
    expect((await shell('sha256sum </data/file')).slice(0, 64)).toBe(
      createHash('sha256').update(content).digest('hex'),
    );
  });

  it(`a download fails with UNAVAILABLE when the ${role} is killed, and never looks complete`, async () => {
    await shell('dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null');
    const download = await server.client.download(box, '/big');
    let received = 0;
    const outcome = await (async () => {
      for await (const piece of download.body) {
        if (received === 0) await server.kill(role, role === 'worker' ? box : undefined);
        received += piece.byteLength;
      }
      return null;
    })().catch((error: unknown) => error);
    expect(outcome).toMatchObject({ code: 'UNAVAILABLE' });
    expect(received).toBeLessThan(64 * 2 ** 20);
    expect(await shellAgain('stat -c %s /big')).toBe(`${64 * 2 ** 20}\n`);
    await eventually('nothing of the download runs', async () => (await shellAgain('ps | grep -c "[c]at"')) === '0\n');
  });
}
