// Tests the operations on files of a box on a real server, by the SDK and by HTTP: odd names, links, rights, full and
// read-only disks, many files, files that change, and what is left when a box or a worker ends in the middle.
import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BoxFiles, FileChangeEvent } from '../../src/sdk/index.ts';
import { eventually } from '../support/runs/eventually.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
let files: BoxFiles;
let boxId = '';
let top = '';
const local = (name: string) => join(top, name);
const then = new Date('2001-02-03T04:05:06.789Z');

beforeAll(async () => {
  top = fs.mkdtempSync(join(tmpdir(), 'boxrun-test-fs-'));
  fs.mkdirSync(local('readonly'));
  fs.writeFileSync(local('readonly/a'), 'a\n');
  server = await startServer();
  const volumes = [{ host_path: local('readonly'), guest_path: '/readonly', readonly: true }];
  const box = await server.client.create({ image: 'base', name: 'web', cpu: 1, memory_mb: 256, volumes });
  ({ id: boxId, files } = box);
});
afterAll(async () => {
  await server.close();
  fs.rmSync(top, { recursive: true, force: true });
});

async function inBox(script: string, box = 'web'): Promise<string> {
  const { stdout, stderr } = await server.client.exec(box, { cmd: ['sh', '-c', script], user: '0' });
  return stdout + stderr;
}
const namesIn = async (path: string) => (await files.list(path)).map(({ name }) => name);
const fails = (code: string, text = '') =>
  expect.objectContaining({ code, message: expect.stringContaining(text) as string }) as Error;

const oddNames = [
  'a b',
  `it's "quoted"`,
  'new\nline',
  'grün 日本 🎉',
  '-n',
  '100%',
  'back\\slash',
  '*?[x]$HOME`id`',
  '+&=#',
];

describe('names', () => {
  it.each(oddNames)('%j is the same in every operation', async (name) => {
    const path = `/odd/${name}`;
    await files.write(path, name);
    expect(await files.readText(path)).toBe(name);
    expect(await files.stat(path)).toMatchObject({ name, type: 'file', size: Buffer.byteLength(name) });
    expect(await namesIn('/odd')).toEqual([name]);
    await files.rename(path, `${path}2`);
    await files.chmod(`${path}2`, 0o600);
    expect(await files.stat(`${path}2`)).toMatchObject({ name: `${name}2`, mode: '0600' });
    await files.remove(`${path}2`);
    expect(await namesIn('/odd')).toEqual([]);
  });

  it('a name that is not UTF-8 is in lists with its exact bytes, and is unchanged in an archive', async () => {
    await inBox(`mkdir /raw; cd /raw; echo x >"$(printf 'b\\377')"`);
    expect(await files.list('/raw')).toMatchObject([
      { name: 'b\ufffd', name_base64: Buffer.from('b\xff', 'latin1').toString('base64') },
    ]);
    await files.downloadDir('/raw', local('raw'));
    expect(fs.readdirSync(local('raw'), { encoding: 'buffer' })).toEqual([Buffer.from('b\xff', 'latin1')]);
    await files.uploadDir(local('raw'), '/raw-back');
    expect(await inBox(`cat "/raw-back/$(printf 'b\\377')"`)).toBe('x\n');
  });

  it('a relative path starts at the working directory', async () => {
    await files.write('rel/file', 'x');
    expect(await inBox('cat /root/rel/file')).toBe('x');
  });
});

describe('what is wrong', () => {
  it('a file that is not there is FILE_NOT_FOUND, in every operation', async () => {
    const calls = [
      files.stat('/gone'),
      files.list('/gone'),
      files.readText('/gone'),
      files.rename('/gone', '/x'),
      files.remove('/gone'),
      files.chmod('/gone', 0o600),
      files.chown('/gone', { uid: 1 }),
      files.pack('/gone'),
      files.watch('/gone').next(),
      files.mkdir('/gone/below'),
      files.write('/gone/file', 'x', { parents: false }),
      files.stat('/etc/hosts/below'),
    ];
    const answers = await Promise.allSettled(calls);
    expect(answers).toEqual(calls.map(() => ({ status: 'rejected', reason: fails('FILE_NOT_FOUND', 'No') })));
  });

  it('a use that the kind of file does not allow is VALIDATION_ERROR, and says why', async () => {
    await inBox('mkdir -p /full/of; mkfifo /fifo');
    await expect(files.list('/etc/hosts')).rejects.toEqual(fails('VALIDATION_ERROR', 'it is not a directory'));
    await expect(files.pack('/etc/hosts')).rejects.toEqual(fails('VALIDATION_ERROR', 'it is not a directory'));
    await expect(files.readText('/full')).rejects.toEqual(fails('VALIDATION_ERROR', 'it is a directory'));
    await expect(files.readText('/fifo')).rejects.toEqual(fails('VALIDATION_ERROR', 'it is no regular file'));
    await expect(files.write('/full', 'x')).rejects.toEqual(fails('VALIDATION_ERROR', 'it is a directory'));
    await expect(files.remove('/full')).rejects.toEqual(fails('VALIDATION_ERROR', 'not empty'));
    await expect(files.mkdir('/full')).rejects.toEqual(fails('VALIDATION_ERROR', 'exists'));
    await expect(files.rename('/fifo', '/full')).rejects.toEqual(fails('VALIDATION_ERROR', 'exists'));
    await expect(files.unpack('/full', Buffer.from('no archive'.repeat(100)))).rejects.toEqual(
      fails('VALIDATION_ERROR', 'not a tar archive'),
    );
  });

  it('a stopped box is BOX_NOT_RUNNING', async () => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    await box.stop();
    await expect(box.files.list('/')).rejects.toEqual(fails('BOX_NOT_RUNNING'));
    await box.remove();
  });

  it('bytes of a box never run as a page of the server', async () => {
    await files.write('/page.html', '<script>alert(1)</script>');
    for (const path of ['fs/read?path=/page.html', 'fs/archive?path=/full']) {
      const response = await fetch(`http://127.0.0.1:${server.port}/v1/boxes/${boxId}/${path}`);
      expect(response.headers.get('content-type')).toBe('application/octet-stream');
      expect(response.headers.get('content-disposition')).toMatch(/^attachment/);
      expect(response.headers.get('x-content-type-options')).toBe('nosniff');
      await response.arrayBuffer();
    }
  });
});

describe('rights', () => {
  it('another user may only do what the box allows, and owns what it makes', async () => {
    await inBox('mkdir -m 700 /root/closed; mkdir -m 777 /open');
    await expect(files.list('/root/closed', { user: 'nobody' })).rejects.toEqual(fails('RUNTIME_ERROR', 'denied'));
    await expect(files.write('/etc/hosts', 'x', { user: 'nobody' })).rejects.toEqual(fails('RUNTIME_ERROR', 'denied'));
    await files.write('/open/own', 'x', { user: '1234:77' });
    expect(await files.stat('/open/own')).toMatchObject({ uid: 1234, gid: 77 });
    await files.chown('/open/own', { uid: 5 });
    expect(await files.stat('/open/own')).toMatchObject({ uid: 5, gid: 77 });
    await expect(files.stat('/', { user: 'no-such-user' })).rejects.toEqual(fails('RUNTIME_ERROR', 'no-such-user'));
  });

  it('files that a user may not read are left out of an archive, and are named', async () => {
    await inBox('mkdir /some; echo x >/some/open; echo y >/some/closed; chmod 600 /some/closed');
    const warnings: string[] = [];
    await files.downloadDir('/some', local('some'), { user: 'nobody', onWarning: (text) => warnings.push(text) });
    expect(fs.readdirSync(local('some'))).toEqual(['open']);
    expect(warnings).toEqual(["'./closed': Permission denied"]);
  });
});

describe('links', () => {
  it('stat follows a link or shows the link, and reads and writes go to its target', async () => {
    await inBox('mkdir /l; echo old >/l/file; ln -s file /l/link; ln -s nowhere /l/dangling');
    expect(await files.stat('/l/link')).toMatchObject({ type: 'file', size: 4 });
    expect(await files.stat('/l/link', { follow: false })).toMatchObject({ type: 'link', target: 'file' });
    await files.write('/l/link', 'new');
    await files.write('/l/dangling', 'made');
    expect(await inBox('cd /l; cat file nowhere; readlink link; readlink dangling')).toBe('newmadefile\nnowhere\n');
  });

  it('a link that leads out of the box leads to a place in the box', async () => {
    await inBox(
      `mkdir -p /out; ln -s ../../../../../..${local('readonly/a')} /out/up; ln -s /proc/1/root/etc /out/proc`,
    );
    await expect(files.readText('/out/up')).rejects.toEqual(fails('FILE_NOT_FOUND'));
    await expect(files.readText(`/../../../..${local('readonly/a')}`)).rejects.toEqual(fails('FILE_NOT_FOUND'));
  });

  it('an archive cannot write outside of its directory', async () => {
    await inBox('mkdir -p /target /victim; ln -s /victim /target/out');
    fs.mkdirSync(local('made/out'), { recursive: true });
    fs.mkdirSync(local('made/below'));
    for (const name of ['made/out/evil', 'made/b']) fs.writeFileSync(local(name), 'x');
    const archive = (directory: string, name: string) =>
      execFileSync('tar', ['-cPf', '-', name], { cwd: local(directory) });
    await expect(files.unpack('/target', archive('made', 'out/evil'))).rejects.toEqual(
      fails('VALIDATION_ERROR', 'leads out'),
    );
    await expect(files.unpack('/target', archive('made/below', '../b'))).rejects.toEqual(
      fails('VALIDATION_ERROR', "'..'"),
    );
    expect(await inBox('ls -A /victim /b 2>/dev/null')).toBe('/victim:\n');
  });
});

describe('directories', () => {
  it('modes, times, links, hard links, holes and attributes stay in both directions', async () => {
    await inBox(
      `mkdir -p /tree/sub; cd /tree; echo run >run; chmod 4750 run; ln run second; ln -s sub link; mkfifo fifo
       truncate -s 50M holes; echo end >>holes; chmod 500 sub; touch -d '2001-02-03 04:05:06' sub run .`,
    );
    await files.downloadDir('/tree', local('tree'));
    const stat = (name: string) => fs.lstatSync(local(`tree/${name}`));
    expect([stat('run').mode & 0o777, stat('sub').mode & 0o777]).toEqual([0o750, 0o500]);
    expect([stat('run').ino, stat('run').nlink]).toEqual([stat('second').ino, 2]);
    expect(fs.readlinkSync(local('tree/link'))).toBe('sub');
    expect(stat('fifo').isFIFO()).toBe(true);
    expect([stat('holes').size, stat('holes').blocks < 1000]).toEqual([50 * 1024 * 1024 + 4, true]);
    expect([stat('sub').mtime, stat('').mtime]).toEqual(Array(2).fill(new Date('2001-02-03T04:05:06Z')));
    fs.utimesSync(local('tree/sub'), then, then);
    await files.uploadDir(local('tree'), '/deep/er/tree');
    expect((await files.stat('/deep/er/tree/sub')).modified_at).toBe(then.toISOString());
    expect(
      await inBox('cd /deep/er/tree; stat -c "%a %h" run; readlink link; test -p fifo; du -m holes | cut -f 1'),
    ).toBe('750 2\nsub\n1\n');
  });

  it('100,000 files in one directory are listed, packed and removed', async () => {
    await inBox('mkdir /many; cd /many; seq 1 100000 | sed s/^/file-/ | xargs touch');
    expect(await namesIn('/many')).toHaveLength(100_000);
    expect(await files.list('/many', { limit: 7 })).toHaveLength(7);
    const { body } = await files.pack('/many');
    const packed = await server.client.exec('web', ['sh', '-c', 'tar -c /many | wc -c']);
    let bytes = 0;
    for await (const piece of body) bytes += piece.length;
    expect(bytes).toBeGreaterThan(Number(packed.stdout) * 0.9);
    await files.remove('/many', { recursive: true });
    await expect(files.stat('/many')).rejects.toEqual(fails('FILE_NOT_FOUND'));
  }, 60_000);

  it('removing a directory does not follow links in it', async () => {
    await inBox('mkdir -p /keep /gone/sub; echo x >/keep/file; ln -s /keep /gone/sub/link');
    await files.remove('/gone', { recursive: true });
    expect(await inBox('cat /keep/file; ls -d /gone 2>&1')).toContain('x\n');
  });

  it('a read-only volume can be read and packed, and refuses changes in clear words', async () => {
    expect(await files.readText('/readonly/a')).toBe('a\n');
    await files.downloadDir('/readonly', local('from-readonly'));
    expect(fs.readFileSync(local('from-readonly/a'), 'utf8')).toBe('a\n');
    await expect(files.remove('/readonly/a')).rejects.toEqual(fails('RUNTIME_ERROR', 'Read-only'));
    await expect(files.write('/readonly/b', 'x')).rejects.toEqual(fails('RUNTIME_ERROR', 'Read-only'));
  });

  it('on a full disk, a write and an archive fail in clear words, and the old files stay', async () => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128, disk_size_gb: 1 });
    await box.exec(['sh', '-c', 'mkdir /d; echo old >/d/file; dd if=/dev/zero of=/d/fill bs=1M']);
    const large = Buffer.alloc(4 * 1024 * 1024, 'x');
    await expect(box.files.write('/d/file', large)).rejects.toEqual(fails('RUNTIME_ERROR', 'No space left'));
    fs.mkdirSync(local('large'));
    fs.writeFileSync(local('large/file'), large);
    await expect(box.files.uploadDir(local('large'), '/d')).rejects.toEqual(fails('RUNTIME_ERROR', 'No space left'));
    expect(await box.files.readText('/d/file')).toBe('old\n');
    expect((await box.files.list('/d')).map(({ name }) => name)).toEqual(['file', 'fill']);
    await box.remove({ force: true });
  });
});

describe('reading and writing', () => {
  it('ranges give the bytes that HTTP promises', async () => {
    await files.write('/range', '0123456789');
    const range = async (header: string) => {
      const response = await fetch(`http://127.0.0.1:${server.port}/v1/boxes/${boxId}/fs/read?path=/range`, {
        headers: { range: header },
      });
      return [response.status, await response.text(), response.headers.get('content-range')];
    };
    expect(await range('bytes=2-4')).toEqual([206, '234', 'bytes 2-4/10']);
    expect(await range('bytes=8-')).toEqual([206, '89', 'bytes 8-9/10']);
    expect(await range('bytes=-3')).toEqual([206, '789', 'bytes 7-9/10']);
    expect(await range('bytes=5-100')).toEqual([206, '56789', 'bytes 5-9/10']);
    expect(await range('bytes=0-1,4-5')).toEqual([200, '0123456789', null]);
    expect((await range('bytes=10-'))[0]).toBe(416);
    expect(await (await files.read('/range', { offset: 3, bytes: 2 })).text()).toBe('34');
    expect(await (await files.read('/range', { offset: -1 })).text()).toBe('9');
  });

  it('files of the kernel are read to their end', async () => {
    expect(await files.readText('/proc/self/comm')).not.toBe('');
    expect(await files.readText('/sys/kernel/mm/transparent_hugepage/enabled')).toContain('never');
  });

  it('a write keeps the mode of a file, or sets mode and time', async () => {
    await files.write('/moded', 'x', { mode: 0o4711, modified: then });
    expect(await files.stat('/moded')).toMatchObject({ mode: '4711', modified_at: then.toISOString() });
    await files.write('/moded', 'y');
    expect(await files.stat('/moded')).toMatchObject({ mode: '4711' });
  });

  it('a reader never sees a part of a new content', async () => {
    await files.write('/atomic', 'a'.repeat(1_000_000));
    const reading = server.client.exec('web', [
      'sh',
      '-c',
      'for i in $(seq 1 200); do sort -u /atomic | tr -s ab; echo; stat -c %s /atomic; done | sort -u',
    ]);
    for (const letter of 'bababa') await files.write('/atomic', letter.repeat(1_000_000));
    expect(new Set((await reading).stdout.split('\n'))).toEqual(new Set(['', '1000000', 'a', 'b']));
  });

  it('a file that grows while it is read is sent with the length that it had', async () => {
    const box = await server.client.getBox('web');
    await inBox('dd if=/dev/zero of=/growing bs=1M count=20');
    const growing = await box.startExec(['sh', '-c', 'while :; do echo more >>/growing; done']);
    const { size, bytes } = await files.read('/growing');
    expect((await bytes()).length).toBe(size);
    await box.cancelExec(growing.id);
  });

  it('nothing is left when the client leaves in the middle of a write', async () => {
    const socket = connect(server.port, '127.0.0.1');
    socket.write(
      `POST /v1/boxes/${boxId}/fs/write?path=/half/file&parents=true HTTP/1.1\r\nhost: localhost\r\n` +
        `content-type: application/octet-stream\r\ncontent-length: 999999\r\n\r\n${'x'.repeat(1000)}`,
    );
    await eventually('the write has begun', async () =>
      (await inBox("ls -d /half && ps | grep '[f]iles 1 write'")).includes('write'),
    );
    socket.destroy();
    await eventually('the program has ended', async () => !(await inBox('ps')).includes('files 1 write'));
    expect(await namesIn('/half')).toEqual([]);
  });
});

/** Reads changes until one has this type and path. */
async function readUntil(changes: AsyncIterator<FileChangeEvent>, type: string, path: string): Promise<string[]> {
  const seen: string[] = [];
  for (;;) {
    const { value, done } = (await changes.next()) as IteratorResult<FileChangeEvent, undefined>;
    if (done === true || value === undefined) throw new Error(`the watch ended after ${seen.join(', ')}`);
    seen.push(`${value.type} ${value.path}`);
    if (value.type === type && value.path === path) return seen;
  }
}

describe('watching', () => {
  it('reports what happens to files, also in directories that come later', async () => {
    await inBox('mkdir -p /watched/old');
    const changes = files.watch('/watched', { recursive: true });
    await readUntil(changes, 'ready', '');
    await inBox(
      'cd /watched; echo x >file; mv file old/moved; mkdir -p new/er; echo y >new/er/deep; chmod 600 old/moved; rm old/moved',
    );
    const seen = await readUntil(changes, 'removed', 'old/moved');
    for (const change of [
      'created file',
      'written file',
      'moved_from file',
      'moved_to old/moved',
      'created new',
      'created new/er',
      'created new/er/deep',
      'attributes old/moved',
    ])
      expect(seen).toContain(change);
    await inBox('rm -r /watched');
    await readUntil(changes, 'removed', '');
    expect((await changes.next()).done).toBe(true);
  });

  it('ends its program in the box when the client leaves', async () => {
    const changes = files.watch('/etc');
    await readUntil(changes, 'ready', '');
    expect(await inBox('ps')).toContain('files 1 watch');
    await changes.return();
    await eventually('the program has ended', async () => !(await inBox('ps')).includes('files 1 watch'));
  });
});

describe('an end in the middle', () => {
  it('a stop of the box ends reads, writes and watches with BOX_NOT_RUNNING, and leaves no temporary file', async () => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128, stop_grace_s: 0 });
    const changes = box.files.watch('/root');
    await readUntil(changes, 'ready', '');
    let sendMore: () => void = () => undefined;
    const more = new Promise<void>((resolve) => {
      sendMore = resolve;
    });
    async function* slowly() {
      yield Buffer.alloc(100_000, 'x');
      await more;
      yield Buffer.alloc(100_000, 'x');
    }
    const write = box.files.write('/root/file', slowly());
    write.catch(() => undefined);
    await eventually('the write has begun', async () => (await inBox('ps', box.id)).includes('files 1 write'));
    await box.stop();
    sendMore();
    await expect(write).rejects.toEqual(fails('BOX_NOT_RUNNING'));
    await expect(changes.next()).rejects.toEqual(fails('BOX_NOT_RUNNING'));
    await box.start();
    expect((await box.files.list('/root')).map(({ name }) => name)).toEqual([]);
    await box.remove({ force: true });
  });
});

it('boxrun ls BOX:PATH lists files, and says what to type instead of a name of a box', async () => {
  const boxrun = async (...args: string[]) => {
    const child = execFile(process.execPath, [cliBundle, ...args], { env: server.env });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (piece: string) => (output += piece));
    const [code] = (await once(child, 'close')) as [number];
    return { code, output };
  };
  await inBox('mkdir /listed; cd /listed; echo hi >file; ln -s file link; mkdir -m 700 dir');
  expect((await boxrun('ls', '-q', 'web:/listed')).output).toBe('dir\nfile\nlink\n');
  expect((await boxrun('ls', 'web:/listed')).output).toMatch(
    /^MODE .*\nd0700 .*dir\n-0644 +0 +0 +3 .*file\nl0777 .*link -> file\n$/s,
  );
  expect(await boxrun('ls', 'web')).toMatchObject({
    code: 2,
    output: expect.stringContaining('boxrun ls web:/') as string,
  });
});
