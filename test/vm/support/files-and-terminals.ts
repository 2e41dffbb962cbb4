// Tests of files, terminals and the input of commands on a real micro-VM, through the whole service. They use the
// server and the box of another test file, because each boot takes many seconds in the emulated host.
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { ExecBody } from '../../../src/shared/api.ts';
import { collect, type CrashServer } from '../../support/servers/crash-server.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { openSocket, type TestSocket } from '../../support/servers/web-socket.ts';

/** The waits are long, because one exec takes a large part of a second in the emulated host. */
const slowMs = 20_000;
/**
 * busybox's shell asks for the cursor's position after its prompt, and draws the prompt again when the size changes.
 */
const prompt = /[#$] (\x1b\[(6n|J))*$/;
let server: CrashServer;
let box: string;

async function run(body: ExecBody): Promise<Awaited<ReturnType<typeof collect>>> {
  return collect(server.client, await server.client.startExec(box, body));
}
const shell = async (script: string) => (await run({ cmd: ['sh', '-c', script] })).stdout;
const put = (path: string, content: Uint8Array | string) => server.client.upload(box, Buffer.from(content), path);
const get = async (path: string) => Buffer.from(await (await server.client.download(box, path)).bytes());
const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const webSocket = (path: string) => openSocket(`ws+unix:${server.stateDir}/boxrun.sock:/v1/boxes/${box}${path}`);
const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));

/** Defines the tests. They call `place` before they start; it returns the server and the name of a running box. */
export function describeFilesAndTerminals(place: () => { readonly server: CrashServer; readonly box: string }): void {
  beforeAll(() => {
    ({ server, box } = place());
  });
  describe('files', describeFiles);
  describe('the input of a command', describeInput);
  describe('a command', describeCommands);
  describe('a terminal', describeTerminals);
}

/** What needs the agent of the box. Call it after describeFilesAndTerminals. */
export function describeAgent(): void {
  describe('files by the agent', describeFilesByAgent);
  describe('a command by the agent', describeCommandsByAgent);
}

function describeFilesByAgent(): void {
  it('can be listed, read in part, renamed, changed and removed, also as another user', async () => {
    const files = server.client.files(box);
    await files.write('/fs/file', '0123456789', { mode: 0o640 });
    expect(await files.stat('/fs/file')).toMatchObject({ name: 'file', size: 10, mode: '0640', uid: 0 });
    expect(await (await files.read('/fs/file', { offset: 3, bytes: 4 })).text()).toBe('3456');
    await files.rename('/fs/file', '/fs/other name');
    await files.chmod('/fs/other name', 0o600);
    expect((await files.list('/fs')).map(({ name, mode }) => `${name} ${mode}`)).toEqual(['other name 0600']);
    await expect(files.readText('/fs/other name', { user: '1000' })).rejects.toMatchObject({
      code: 'RUNTIME_ERROR',
      message: expect.stringContaining('Permission denied') as string,
    });
    await files.remove('/fs', { recursive: true });
    await expect(files.stat('/fs')).rejects.toMatchObject({ code: 'FILE_NOT_FOUND', status: 404 });
  });

  it('of a directory keep modes, times, links and holes in both directions, and changes are reported', async () => {
    const files = server.client.files(box);
    await shell(
      `mkdir -p /tree/sub; cd /tree; echo x >run; chmod 4750 run; ln run second; ln -s sub link
       truncate -s 20M holes; touch -d '2001-02-03 04:05:06' sub .`,
    );
    const local = mkdtempSync(join(tmpdir(), 'boxrun-vm-tree-'));
    onTestFinished(() => {
      rmSync(local, { recursive: true });
    });
    await files.downloadDir('/tree', local);
    expect(statSync(join(local, 'holes')).blocks).toBeLessThan(1000);
    const changes = files.watch('/', {});
    expect((await changes.next()).value).toMatchObject({ type: 'ready' });
    await files.uploadDir(local, '/again');
    expect((await changes.next()).value).toMatchObject({ type: 'created', path: 'again', is_directory: true });
    await changes.return();
    expect(await shell('cd /again; stat -c "%a %h %Y" run sub .; readlink link; du -m holes | cut -f 1')).toMatch(
      /^750 2 \d+\n755 2 981173106\n755 \d 981173106\nsub\n[01]\n$/,
    );
  });
}

function describeCommandsByAgent(): void {
  it('says what it used, and is in the list of processes while it runs', async () => {
    const exec = await server.client.startExec(box, {
      cmd: ['sh', '-c', 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1000'],
    });
    await eventually(
      'its processes are in the list',
      async () => (await server.client.processes(box)).some(({ command }) => command === 'sleep 1000'),
      slowMs,
    );
    await server.client.signalExec(box, exec.id, 'TERM');
    const { usage } = await server.client.getExec(box, exec.id, { waitS: 20 });
    expect(usage).toMatchObject({ oom_kills: 0, throttled_seconds: null });
    expect(usage?.cpu_seconds).toBeGreaterThan(0.001);
    expect(usage?.peak_memory_bytes).toBeGreaterThan(500_000);
  });

  it('runs as the user that the box has now, also after a change, and not as one that is deleted', async () => {
    const ids = { cmd: ['sh', '-c', 'id -u; id -G; echo $HOME'], user: 'new' };
    await shell('echo "new:x:2000:3000::/tmp:/bin/sh" >>/etc/passwd; echo "more:x:4000:new" >>/etc/group');
    expect((await run(ids)).stdout).toBe('2000\n3000 4000\n/tmp\n');
    await shell('sed -i "s/^new:.*/new:x:2001:3001::\\/var:\\/bin\\/sh/; s/^more:.*//" /etc/passwd /etc/group');
    expect((await run(ids)).stdout).toBe('2001\n3001\n/var\n');
    await shell('sed -i "/^new:/d" /etc/passwd');
    await expect(run(ids)).rejects.toMatchObject({ message: expect.stringContaining('new') as string });
  });

  it('that the kernel kills for lack of memory says so, and the box goes on', async () => {
    const hog = 'x=0123456789abcdef; while :; do x=$x$x; done';
    const exec = await server.client.startExec(box, { cmd: ['sh', '-c', hog] });
    const ended = await server.client.getExec(box, exec.id, { waitS: 60 });
    expect(ended).toMatchObject({
      exit_code: 137,
      error_message: expect.stringMatching(/^out of memory: the kernel killed it; the box has \d+ MiB$/) as string,
      usage: { oom_kills: 1 },
    });
    expect(await shell('echo on')).toBe('on\n');
  });
}

function describeFiles(): void {
  it('are unchanged after an upload into a new directory and a download: empty, every byte, 700 kB', async () => {
    for (const content of [Buffer.alloc(0), everyByte, randomBytes(700_001)]) {
      const path = `/data/of/${content.length}/file`;
      await put(path, content);
      expect((await shell(`sha256sum <${path}`)).slice(0, 64)).toBe(sha(content));
      expect(sha(await get(path))).toBe(sha(content));
    }
    expect(await shell('ls -A /data/of/*')).not.toContain('boxrun-upload');
  });

  it('can have names with blanks, quotes, newlines and letters of all kinds', async () => {
    const name = `it's a "name"\n\\ grün 日本 🎉 $HOME`;
    await put(`/names/${name}`, 'content');
    expect((await get(`/names/${name}`)).toString()).toBe('content');
    expect(await shell('ls -A /names | wc -l; cd /names; for n in *; do printf %s "$n" | md5sum; done')).toBe(
      `1\n${createHash('md5').update(name).digest('hex')}  -\n`,
    );
  });

  it("can be in the box's memory file systems, which the engine's own copy does not reach", async () => {
    await shell('mkdir -p /mem; mount -t tmpfs none /mem 2>/dev/null; df -P /dev/shm /tmp');
    for (const path of ['/tmp/deep/file', '/dev/shm/file', '/run/file']) {
      await put(path, path);
      expect(await shell(`cat ${path}`)).toBe(path);
      expect((await get(path)).toString()).toBe(path);
    }
  });

  it('are refused with a reason when the path cannot be used', async () => {
    const refused = { code: 'VALIDATION_ERROR', status: 422 };
    await expect(put('/data', 'x')).rejects.toMatchObject({
      ...refused,
      message: expect.stringContaining('directory') as string,
    });
    await expect(put('/data/../etc/x', 'x')).rejects.toMatchObject({
      ...refused,
      message: expect.stringContaining("'..'") as string,
    });
    await expect(get('/data')).rejects.toMatchObject({
      ...refused,
      message: expect.stringContaining('directory') as string,
    });
    await expect(get('/dev/zero')).rejects.toMatchObject(refused);
    await expect(get('/missing')).rejects.toMatchObject({
      code: 'RUNTIME_ERROR',
      message: expect.stringContaining('no such file') as string,
    });
    await expect(put('/proc/x', 'x')).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
  });

  it('never leave the box through a link', async () => {
    const name = `boxrun-link-${randomBytes(6).toString('hex')}`;
    await shell('ln -s ../../../../../../../../tmp /root/out; ln -s /proc/1/root/tmp /root/round');
    await put(`/root/out/${name}`, 'inside');
    expect(await shell(`cat /tmp/${name}`)).toBe('inside');
    expect((await get(`/root/round/${name}`)).toString()).toBe('inside');
    await expect(access(`/tmp/${name}`)).rejects.toThrow();
  });

  it('leave nothing behind when the upload breaks off', async () => {
    const broken = async function* () {
      yield randomBytes(600_000);
      // The agent's program shows nothing until the file is complete; the scripts write beside its place.
      const begun = 'ls -A /half 2>/dev/null; ls -d /half && ps | grep "[f]iles 1 write"';
      await eventually('the upload has begun', async () => /upload|write/.test(await shell(begun)), slowMs);
      throw new Error('the source broke');
    };
    await expect(server.client.upload(box, broken(), '/half/file')).rejects.toThrow('the source broke');
    await eventually('no part of the upload is left', async () => (await shell('ls -A /half')) === '', slowMs);
  });
}

function describeInput(): void {
  it('arrives byte for byte, with NUL and invalid UTF-8, and ends', async () => {
    const exec = await server.client.startExec(box, {
      cmd: ['sh', '-c', 'echo begun; sha256sum; exit 3'],
      stdin: true,
    });
    const input = Buffer.concat([everyByte, randomBytes(1_000_000), Buffer.from([0xff, 0, 0xc3])]);
    const socket = await webSocket(`/exec/${exec.id}/attach`);
    await socket.until(/begun\n/, slowMs);
    socket.type(input);
    socket.control({ type: 'eof' });
    await socket.closed;
    expect(socket.text()).toBe(`${sha(input)}  -\n`);
    expect(socket.controls).toEqual([{ type: 'exit', code: 3 }]);
  });

  it('comes through a terminal, whose size can change', async () => {
    const cmd = ['sh', '-c', 'stty size; read a; stty size; [ -t 1 ] && echo "tty $TERM $a"'];
    const exec = await server.client.startExec(box, { cmd, tty: true, stdin: true, cols: 90, rows: 30 });
    const socket = await webSocket(`/exec/${exec.id}/attach`);
    await socket.until(/30 90\r\n/, slowMs);
    socket.control({ type: 'resize', cols: 132, rows: 50 });
    socket.type('typed\n');
    await socket.until(/50 132\r\ntty xterm-256color typed\r\n/, slowMs);
    await socket.closed;
  });
}

function describeCommands(): void {
  it('runs as another user: in the workdir of the box, or in / if that user may not enter the workdir', async () => {
    expect((await run({ cmd: ['sh', '-c', 'id -u; id -g; pwd'], user: '1234:55' })).stdout).toBe('1234\n55\n/\n');
    expect((await run({ cmd: ['sh', '-c', 'id -un; pwd'], user: 'root' })).stdout).toBe('root\n/root\n');
    const closed = await run({ cmd: ['pwd'], user: '1234:55', workdir: '/root' });
    expect(closed).toMatchObject({ stdout: '', exit: { exitCode: 1 } });
    expect(closed.stderr).toContain('Permission denied');
  });

  it('gets the signal that a client sends', async () => {
    const exec = await server.client.startExec(box, {
      cmd: ['sh', '-c', 'trap "echo caught; exit 9" USR1; echo up; while :; do sleep 0.1; done'],
    });
    for await (const event of server.client.execEvents(exec)) {
      if (event.type === 'exit') expect(event.exitCode).toBe(9);
      else if (event.text.includes('up')) await signal(exec.id, 'USR1');
    }
  });
}

function describeTerminals(): void {
  it('runs a shell, follows changes of the size, and handles Ctrl-C, Ctrl-Z and the exit code', async () => {
    const terminal = await webSocket('/attach?cols=101&rows=33&term=vt100');
    await terminal.until(prompt, slowMs);
    terminal.type('stty size; echo "[$TERM]"; tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all-""ttys\n');
    await terminal.until(/33 101\r\n\[vt100\]\r\n\/dev\/pts\/\d+\r\nall-ttys\r\n/, slowMs);
    terminal.control({ type: 'resize', cols: 120, rows: 40 });
    await resized(terminal, '40 120');
    terminal.type('sleep 6001; echo "code $?"\n');
    await eventually('it sleeps', async () => (await shell('ps')).includes('sleep 6001'), slowMs);
    terminal.type('\x03');
    terminal.type('echo af""ter; sleep 6002\n');
    await terminal.until(/after\r\n/, slowMs);
    await eventually('it sleeps', async () => (await shell('ps')).includes('sleep 6002'), slowMs);
    terminal.type('\x1a');
    await terminal.until(/Stopped/, slowMs);
    terminal.type('fg\n');
    await terminal.until(/fg\r\nsleep 6002\r\n/, slowMs);
    terminal.type('\x03');
    terminal.type('exit 7\n');
    expect(await terminal.closed).toBe(1000);
    expect(terminal.controls).toEqual([{ type: 'exit', code: 7 }]);
  });

  it('ends with Ctrl-D', async () => {
    const terminal = await webSocket('/attach');
    await terminal.until(prompt, slowMs);
    terminal.type('\x04');
    await terminal.closed;
    expect(terminal.controls).toEqual([{ type: 'exit', code: 0 }]);
  });

  it('is killed with the shell and all its children when the client closes the connection', async () => {
    const terminal = await webSocket('/attach');
    await terminal.until(prompt, slowMs);
    terminal.type('setsid sleep 3001 & sleep 3002 & (sleep 3003 &) ; sleep 3004\n');
    await eventually('all run', async () => (await shell('ps | grep -c "[s]leep 300[1-4]"')).trim() === '4', slowMs);
    const leftAt = performance.now();
    terminal.socket.terminate();
    await eventually('none runs', async () => (await shell('ps | grep -c "[s]leep 300[1-4]"')).trim() === '0', slowMs);
    // On a real host, 2 s would be enough. In the emulated host, each look alone takes half a second.
    expect(performance.now() - leftAt).toBeLessThan(6_000);
  });
}

async function signal(exec: string, name: string): Promise<void> {
  const { request } = await import('node:http');
  const body = JSON.stringify({ signal: name });
  await new Promise<void>((resolve, reject) => {
    const outgoing = request(
      {
        socketPath: `${server.stateDir}/boxrun.sock`,
        method: 'POST',
        path: `/v1/boxes/${box}/exec/${exec}:signal`,
        headers: { 'content-type': 'application/json' },
      },
      (answer) => {
        answer.resume();
        if (answer.statusCode === 200) resolve();
        else reject(new Error(`the signal was answered ${answer.statusCode}`));
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

async function resized(terminal: TestSocket, size: string): Promise<void> {
  await eventually(
    `stty says ${size}`,
    async () => {
      terminal.type('stty size\n');
      return (await terminal.until(/\d+ \d+\r\n/, slowMs)).includes(size);
    },
    slowMs,
  );
}
