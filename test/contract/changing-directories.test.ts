// Tests boxrun cp of directories that change during the copy, on a real server. With GNU tar, on the host or in the
// box, the copy succeeds and a warning names the changed file. Any other failure of tar is an error.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, realpathSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

/** The size of the file. tar needs long enough to read it that the test changes it in the meantime. */
const bytes = 128 * 1024 * 1024;
let server: TestServer;
let directory = '';
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'boxrun-changing-'));
  server = await startServer();
  const volumes = [{ host_path: '/usr', guest_path: '/host/usr', readonly: true }];
  await server.client.create({ image: 'base', name: 'web', cpu: 1, memory_mb: 512, volumes });
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

/** A script for a box that runs GNU tar of this host with its libraries. The base image has no GNU tar. */
function hostTar(): string {
  const linked = execFileSync('ldd', ['/usr/bin/tar'], { encoding: 'utf8' });
  const loader = realpathSync(/(\/\S*\/ld-\S+) \(/.exec(linked)?.[1] ?? '');
  const run = `/host${loader} --library-path /host${dirname(loader)} /host/usr/bin/tar`;
  return `#!/bin/sh\nexec ${run} "$@"\n`;
}

const inBox = (script: string) => server.client.exec('web', ['sh', '-c', script]);
const warning = /^boxrun: warning: files changed during the copy: \S*tar: \.\/large: file changed as we read it\n$/;

it('boxrun cp into a box succeeds with a warning when a file changes during the copy', async () => {
  mkdirSync(join(directory, 'here'));
  const file = openSync(join(directory, 'here/large'), 'w');
  ftruncateSync(file, bytes);
  closeSync(file);
  const touching = spawn('sh', ['-c', 'while :; do touch here/large; done'], { cwd: directory });
  try {
    const { code, stderr } = await boxrun('cp', '-q', 'here', 'web:/root/here');
    expect(stderr).toMatch(warning);
    expect(code).toBe(0);
  } finally {
    touching.kill('SIGKILL');
  }
  expect((await inBox('stat -c %s /root/here/large')).stdout).toBe(`${bytes}\n`);
});

it('boxrun cp out of a box with GNU tar succeeds with a warning when a file changes during the copy', async () => {
  await server.client.upload('web', Buffer.from(hostTar()), '/usr/local/bin/tar');
  const { stdout } = await inBox(
    `chmod +x /usr/local/bin/tar; mkdir /root/there; truncate -s ${bytes} /root/there/large; /usr/local/bin/tar --version`,
  );
  expect(stdout).toContain('GNU tar');
  const touching = await server.client.startExec('web', ['sh', '-c', 'while :; do touch /root/there/large; done']);
  const { code, stderr } = await boxrun('cp', '-q', 'web:/root/there', 'there');
  await server.client.cancelExec('web', touching.id);
  expect(stderr).toMatch(warning);
  expect(code).toBe(0);
  expect(statSync(join(directory, 'there/large')).size).toBe(bytes);
});

it('boxrun cp fails when GNU tar ends with 2, or another tar with 1', async () => {
  const tar = async (script: string) => {
    await server.client.upload('web', Buffer.from(`#!/bin/sh\n${script}\n`), '/usr/local/bin/tar');
    return boxrun('cp', '-q', 'web:/root/there', 'failed');
  };
  const gnu = '[ "$1" = --version ] && echo "tar (GNU tar) 1.34" && exit 0;';
  expect(await tar(`${gnu} echo broken >&2; exit 2`)).toEqual({
    code: 1,
    stderr: 'Error: [RUNTIME_ERROR] in the box, tar failed: broken\n',
  });
  expect(await tar('echo broken >&2; exit 1')).toEqual({
    code: 1,
    stderr: 'Error: [RUNTIME_ERROR] in the box, tar failed: broken\n',
  });
});
