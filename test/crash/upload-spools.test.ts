// Tests a multipart upload on a real server whose file comes before its destination. The gateway stores the file on the
// disk until it knows the destination. The next gateway removes files of dead gateways, and keeps files of living ones.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { request, type ClientRequest } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';

let server: CrashServer;
let box = '';
beforeAll(async () => {
  server = await startCrashServer();
  ({ id: box } = await server.client.create({ image: 'base', cpu: 1, memory_mb: 64 }));
});
afterAll(async () => {
  await server.close();
});

const spools = () => readdirSync(server.stateDir).filter((name) => name.startsWith('upload-'));
const boundary = 'XXXX';
const part = (header: string) => `--${boundary}\r\nContent-Disposition: form-data; ${header}\r\n\r\n`;

/** Begins an upload and sends a megabyte of its file, but neither the end of the file nor the destination. */
async function beginUpload(): Promise<ClientRequest> {
  const before = spools().length;
  const outgoing = request({
    socketPath: join(server.stateDir, 'boxrun.sock'),
    method: 'POST',
    path: `/v1/boxes/${box}/files/upload`,
    headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
    agent: false,
  });
  outgoing.on('error', () => undefined);
  outgoing.write(`${part('name="file"; filename="file"')}${'x'.repeat(1024 * 1024)}`);
  await eventually('it is kept', async () => spools().length === before + 1);
  return outgoing;
}

async function finish(outgoing: ClientRequest): Promise<number> {
  outgoing.end(`\r\n${part('name="dest"')}/root/file\r\n--${boundary}--\r\n`);
  return new Promise((resolve, reject) => {
    outgoing.once('error', reject).once('response', (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
  });
}

it('a finished upload leaves no temporary file', async () => {
  expect(await finish(await beginUpload())).toBe(200);
  expect((await server.client.exec(box, ['wc', '-c', '/root/file'])).stdout).toBe('1048576 /root/file\n');
  await eventually('nothing is left', async () => spools().length === 0);
});

it('a new gateway removes the temporary files of a killed gateway', async () => {
  await beginUpload();
  await beginUpload();
  await server.kill('gateway');
  await eventually('they are gone', async () => spools().length === 0);
  expect((await server.client.exec(box, ['echo', 'there'])).stdout).toBe('there\n');
});

it('a new gateway removes temporary files of an earlier version, which name no process', async () => {
  const old = join(server.stateDir, 'upload-a1B2c3');
  mkdirSync(old);
  writeFileSync(join(old, 'file'), 'left');
  await server.end();
  await server.serve();
  await eventually('it is gone', async () => spools().length === 0);
});

it('a new gateway keeps the temporary files of a gateway that still runs', async () => {
  await server.end();
  server = await startCrashServer({ stateDir: server.stateDir, args: ['--gateways', '2'] });
  const outgoing = await beginUpload();
  const [mine = ''] = spools();
  // The pid in this name is above the largest possible pid, so its process does not exist.
  mkdirSync(join(server.stateDir, `upload-${2 ** 22 + 1}-1-a1B2c3`));
  const other = (await processesOf(server.stateDir)).find(
    ({ role, pid }) => role === 'gateway' && !mine.includes(`-${pid}-`),
  );
  process.kill(other?.pid ?? 0, 'SIGKILL');
  await eventually('a new gateway has removed the dead one', async () => spools().length === 1);
  expect(spools()).toEqual([mine]);
  expect(await finish(outgoing)).toBe(200);
});
