// The whole service on real micro-VMs: the API, the command line, kills of whole trees, and the death of a worker and
// of a supervisor. A boot is slow in the emulated host. So the tests share one server and few boxes, and run in order.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { limits } from '../../src/shared/limits.ts';
import {
  collect,
  counted,
  expectSameText,
  startCrashServer,
  type CrashServer,
} from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';
import { describeAgent, describeFilesAndTerminals } from './support/files-and-terminals.ts';

const cli = join(import.meta.dirname, '../../dist/cli.cjs');
const box = { image: 'base', cpu: 1, memory_mb: 256, disk_size_gb: 1 };
let server: CrashServer;

beforeAll(async () => {
  server = await startCrashServer({ driver: 'boxlite', args: ['--workers', '0'] });
}, 240_000);
afterAll(async () => {
  await server.close();
}, 120_000);

async function boxrun(...args: string[]): Promise<{ stdout: string; stderr: string; code: number }> {
  const env = { ...process.env, BOXRUN_STATE_DIR: server.stateDir };
  try {
    return { ...(await promisify(execFile)(process.execPath, [cli, ...args], { env })), code: 0 };
  } catch (error) {
    const failed = error as { stdout: string; stderr: string; code: number };
    return { stdout: failed.stdout, stderr: failed.stderr, code: failed.code };
  }
}

async function run(name: string, script: string): Promise<Awaited<ReturnType<typeof collect>>> {
  return collect(server.client, await server.client.startExec(name, { cmd: ['sh', '-c', script] }));
}

describe('a box on a micro-VM', () => {
  it('runs commands through the API', async () => {
    const created = await server.client.create({ ...box, name: 'api', env: { COLOUR: 'blue' } });
    expect(created).toMatchObject({ status: 'running', name: 'api', image: 'base' });
    const both = await run('api', 'echo "$COLOUR"; echo problem >&2; exit 7');
    expect(both).toMatchObject({ stdout: 'blue\n', stderr: 'problem\n', exit: { exitCode: 7 } });
    // The box has a kernel of its own: it is isolated by hardware, not by namespaces of the host's kernel.
    expect((await run('api', 'uname -r')).stdout).not.toBe((await promisify(execFile)('uname', ['-r'])).stdout);
  });

  it('reuses the guest of an earlier box of its image, here that of the probe', async () => {
    const { id } = await server.client.getBox('api');
    const templates = join(server.stateDir, 'images', 'boxlite-homes');
    const kept = readdirSync(templates).flatMap((key) => readdirSync(join(templates, key, 'bases')));
    expect(kept).toHaveLength(1);
    expect(readdirSync(join(server.stateDir, 'boxes', id, 'bases'))).toEqual(kept);
  });

  it('answers a short command when it is finished, or after a hold', async () => {
    for (let round = 0; round < 5; round++) {
      const startedAt = performance.now();
      const exec = await server.client.startExec('api', { cmd: ['true'] });
      const waitedMs = performance.now() - startedAt;
      // In the emulated host, even a short command may take longer than the hold.
      expect(exec.status === 'succeeded' || waitedMs >= limits.execHoldLeastMs).toBe(true);
      await collect(server.client, exec);
    }
  });

  it('runs commands through the command line, with exit code and streams', async () => {
    const result = await boxrun('exec', 'api', '--', 'sh', '-c', 'echo out; echo err >&2; exit 5');
    expect(result).toEqual({ stdout: 'out\n', stderr: 'err\n', code: 5 });
    expect((await boxrun('ls')).stdout).toMatch(/api\s+running/);
  });

  it('exits with 127 for a missing command, and prints a message for a missing directory', async () => {
    const missing = await server.client.startExec('api', { cmd: ['no-such-command'] });
    const first = await collect(server.client, missing);
    expect(first.exit.exitCode).toBe(127);
    expect(first.stderr).toMatch(/no-such-command.*not found/);
    const elsewhere = await server.client.startExec('api', { cmd: ['pwd'], workdir: '/no/such/dir' });
    const second = await collect(server.client, elsewhere);
    expect(second.exit.exitCode).not.toBe(0);
    expect(second.stderr).toMatch(/\/no\/such\/dir/);
  });

  it('returns large output complete and in order', async () => {
    const lines = 20_000;
    const { stdout } = await run('api', `awk 'BEGIN { for (i = 0; i < ${lines}; i++) print "line-" i }'`);
    expectSameText(stdout, counted(lines));
  });

  it('returns 2 MB of random bytes exactly', async () => {
    await run('api', 'head -c 2000000 /dev/urandom >/tmp/random');
    const sent = (await run('api', 'sha256sum </tmp/random')).stdout.slice(0, 64);
    const bytes = Buffer.from(await (await server.client.download('api', '/tmp/random')).bytes());
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(sent);
  });

  it('runs eight commands at once, each with its own output', async () => {
    const all = await Promise.all(Array.from({ length: 8 }, (_, index) => run('api', `sleep 0.5; echo ${index}`)));
    expect(all.map(({ stdout, exit }) => [stdout, exit.exitCode])).toEqual(
      Array.from({ length: 8 }, (_, index) => [`${index}\n`, 0]),
    );
  });

  it('kills the whole tree on cancel: background children, new sessions, double forks', async () => {
    const tree =
      'sleep 7001 & setsid sleep 7002 & (setsid sleep 7003 &) ; (sh -c "(sleep 7004 &)") ; echo up; sleep 7005';
    const exec = await server.client.startExec('api', { cmd: ['sh', '-c', tree] });
    for await (const event of server.client.execEvents(exec))
      if (event.type === 'log' && event.text.includes('up')) break;
    const canceled = await server.client.cancelExec('api', exec.id);
    expect(canceled.status).toBe('canceled');
    expect((await run('api', 'ps | grep -c "[s]leep 700"')).stdout).toBe('0\n');
    await expect(server.client.cancelExec('api', exec.id)).rejects.toMatchObject({ code: 'EXEC_ALREADY_FINISHED' });
  });

  it('kills the whole tree at a timeout', async () => {
    const exec = await server.client.startExec('api', {
      cmd: ['sh', '-c', 'setsid sleep 8001 & sleep 8002'],
      timeout_ms: 1500,
    });
    const { exit } = await collect(server.client, exec);
    expect(exit.error).toMatch(/timed out/);
    expect((await server.client.getExec('api', exec.id)).status).toBe('failed');
    expect((await run('api', 'ps | grep -c "[s]leep 800"')).stdout).toBe('0\n');
  });
});

describe('a port of a box on a micro-VM', () => {
  it('is listed, and a connection carries bytes both ways to their ends', async () => {
    const ports = server.client.ports('api');
    const listener = await server.client.startExec('api', { cmd: ['nc', '-ll', '-p', '8080', '-e', 'cat'] });
    expect(await ports.wait(8080, { timeoutS: 60 })).toMatchObject({ port: 8080, command: 'nc -ll -p 8080 -e cat' });
    const sent = Buffer.from(counted(20_000));
    const connection = (await ports.connect(8080)) as Duplex;
    connection.end(sent);
    const got: Buffer[] = [];
    for await (const piece of connection) got.push(piece as Buffer);
    expect(Buffer.concat(got).equals(sent)).toBe(true);
    await expect(ports.connect(7)).rejects.toMatchObject({ code: 'PORT_NOT_OPEN' });
    await expect(ports.connect(8080, { host: '192.168.127.254' })).rejects.toMatchObject({ code: 'VALIDATION_ERROR' });
    await server.client.cancelExec('api', listener.id);
  });
});

describeFilesAndTerminals(() => ({ server, box: 'api' }));
describeAgent();

describe('a box on a micro-VM, over time', () => {
  it('is adopted without a reboot after SIGKILL of its worker, and its command loses no byte', async () => {
    const bootId = (await run('api', 'cat /proc/sys/kernel/random/boot_id')).stdout;
    const { id } = await server.client.getBox('api');
    const count = 'i=0; while [ $i -lt 400 ]; do echo line-$i; i=$((i+1)); [ $((i%20)) = 0 ] && sleep 0.2; done';
    const exec = await server.client.startExec('api', { cmd: ['sh', '-c', `${count}; exit 6`] });
    const output = collect(server.client, exec);
    for await (const event of server.client.execEvents(exec))
      if (event.type === 'log' && event.text.includes('line-40')) break;
    await server.kill('worker', id);
    const { stdout, exit } = await output;
    expectSameText(stdout, counted(400));
    expect(exit).toMatchObject({ exitCode: 6, error: null });
    expect((await run('api', 'cat /proc/sys/kernel/random/boot_id')).stdout).toBe(bootId);
  });

  it('loses no byte when the supervisor is killed while a command runs', async () => {
    const script = 'i=0; while [ $i -lt 400 ]; do echo line-$i; i=$((i+1)); [ $((i%20)) = 0 ] && sleep 0.2; done';
    const exec = await server.client.startExec('api', { cmd: ['sh', '-c', script] });
    const output = collect(server.client, exec);
    await server.kill('supervisor');
    const { stdout, exit } = await output;
    expect(stdout).toBe(counted(400));
    expect(exit.exitCode).toBe(0);
    await eventually(
      'commands run again',
      async () =>
        run('api', 'true').then(
          () => true,
          () => false,
        ),
      30_000,
    );
  });

  it('leaves no process behind after rm', async () => {
    expect((await boxrun('rm', '--force', 'api')).code).toBe(0);
    const roles = (await processesOf(server.stateDir)).map(({ role }) => role);
    expect(roles).not.toContain('worker');
    expect(await server.client.listBoxes()).toEqual([]);
    // The close of the server checks that no VM, mount or directory is left.
  });
});
