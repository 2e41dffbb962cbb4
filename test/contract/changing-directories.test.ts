// Tests boxrun cp of directories that change during the copy, on a real server. In both directions the copy succeeds,
// and a warning names the changed file. Into the box this needs GNU tar on the host.
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

/** The size of the file. tar needs long enough to read it that the test changes it in the meantime. */
const bytes = 128 * 1024 * 1024;
let server: TestServer;
let directory = '';
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'boxrun-changing-'));
  server = await startServer();
  await server.client.create({ image: 'base', name: 'web', cpu: 1, memory_mb: 512 });
});
afterAll(async () => {
  rmSync(directory, { recursive: true, force: true });
  await server.close();
});

function boxrun(...args: string[]): Promise<{ code: number; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [cliBundle, ...args], { cwd: directory, env: server.env }, (error, _, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stderr });
    });
  });
}

const inBox = (script: string) => server.client.exec('web', ['sh', '-c', script]);

it('boxrun cp into a box succeeds with a warning when a file changes during the copy', async () => {
  mkdirSync(join(directory, 'here'));
  writeFileSync(join(directory, 'here/large'), Buffer.alloc(bytes, 'x'));
  const touching = spawn('sh', ['-c', 'while :; do touch here/large; done'], { cwd: directory });
  try {
    const { code, stderr } = await boxrun('cp', '-q', 'here', 'web:/root/here');
    expect(stderr).toMatch(
      /^boxrun: warning: files changed during the copy: \S*tar: \.\/large: file changed as we read it\n$/,
    );
    expect(code).toBe(0);
  } finally {
    touching.kill('SIGKILL');
  }
  expect((await inBox('stat -c %s /root/here/large')).stdout).toBe(`${bytes}\n`);
});

it('boxrun cp out of a box succeeds with a warning when a file changes during the copy', async () => {
  await inBox(`mkdir /root/there; dd if=/dev/zero of=/root/there/large bs=1M count=${bytes / 1024 / 1024}`);
  const touching = await server.client.startExec('web', ['sh', '-c', 'while :; do touch /root/there/large; done']);
  const { code, stderr } = await boxrun('cp', '-q', 'web:/root/there', 'there');
  await server.client.cancelExec('web', touching.id);
  expect(stderr).toBe("boxrun: warning: files changed during the copy: './large': it changed while it was read\n");
  expect(code).toBe(0);
  expect(statSync(join(directory, 'there/large')).size).toBe(bytes);
});

it('boxrun cp does not use the tar of the box, which may be missing or not to be trusted', async () => {
  await inBox('mkdir -p /root/plain; echo here >/root/plain/file; printf "#!/bin/sh\\nexit 1\\n" >/bin/tar');
  expect(await boxrun('cp', '-q', 'web:/root/plain', 'plain')).toEqual({ code: 0, stderr: '' });
  expect(await boxrun('cp', '-q', 'plain', 'web:/root/again')).toEqual({ code: 0, stderr: '' });
  expect((await inBox('cat /root/again/file')).stdout).toBe('here\n');
});
