// What a micro-VM promises without its agent (BOXRUN_AGENT=off): files and terminals as with it, commands that end with
// their worker. Images that cannot run the agent, and boxes of an earlier version, take this path.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collect, counted, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { describeFilesAndTerminals } from '../vm/support/files-and-terminals.ts';

const box = { image: 'base', cpu: 1, memory_mb: 256, disk_size_gb: 1 };
let server: CrashServer;
let id: string;

beforeAll(async () => {
  server = await startCrashServer({ driver: 'boxlite', args: ['--workers', '0'], env: { BOXRUN_AGENT: 'off' } });
  id = (await server.client.create({ ...box, name: 'vm' })).id;
}, 240_000);
afterAll(async () => {
  await server.close();
}, 120_000);

describeFilesAndTerminals(() => ({ server, box: 'vm' }));

describe('files of a box without an agent', () => {
  it('are refused to the operations that need it, and directories are copied all the same', async () => {
    const files = server.client.files(id);
    await expect(files.list('/')).rejects.toMatchObject({
      code: 'RUNTIME_ERROR',
      hint: expect.stringContaining('BOXRUN_AGENT') as string,
    });
    const local = mkdtempSync(join(tmpdir(), 'boxrun-vm-tree-'));
    mkdirSync(join(local, 'sub'));
    writeFileSync(join(local, 'sub/file'), 'x'.repeat(700_000), { mode: 0o640 });
    await files.uploadDir(local, '/new/tree');
    await files.downloadDir('/new/tree', join(local, 'back'));
    expect(readFileSync(join(local, 'back/sub/file'), 'utf8')).toBe('x'.repeat(700_000));
    expect(statSync(join(local, 'back/sub/file')).mode & 0o777).toBe(0o640);
    rmSync(local, { recursive: true });
  });
});

describe('a command on the ordinary path', () => {
  const run = async (script: string) =>
    collect(server.client, await server.client.startExec('vm', { cmd: ['sh', '-c', script] }));

  it('ends as failed with its worker, says after which seq output may be missing, and the VM lives on', async () => {
    const bootId = 'cat /proc/sys/kernel/random/boot_id';
    const before = (await run(bootId)).stdout;
    const count = 'i=0; while [ $i -lt 300 ]; do echo line-$i; i=$((i+1)); [ $((i%20)) = 0 ] && sleep 0.2; done';
    const exec = await server.client.startExec('vm', { cmd: ['sh', '-c', count] });
    const output = collect(server.client, exec);
    for await (const event of server.client.execEvents(exec)) if (event.type === 'log') break;
    await server.kill('worker', id);
    const { stdout, exit, seqs } = await output;
    expect(counted(300).startsWith(stdout)).toBe(true);
    expect(exit.error).toMatch(/worker exited.*seq \d+/);
    expect(seqs.at(-1)).toBe(exit.seq);
    const after = await eventually('commands run', () => run(bootId).catch(() => null), 90_000);
    expect(after.stdout).toBe(before);
    expect((await run('ps | grep -c "[l]ine-"')).stdout).toBe('0\n');
  });
});
