// Tests name resolution in real boxes of the container driver on a host with an unusual /etc/resolv.conf. The driver
// runs in a process with its own mount and network namespaces. There the file is replaced, and a name server of the
// test answers at the address in the file.
import { execFile } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { bundleFixture } from '../support/runs/bundle.ts';
import { describeOnHost } from '../support/boxes/container-boxes.ts';
import { temporaryDir } from '../support/boxes/driver-harness.ts';

const run = promisify(execFile);
const answer = '192.0.2.77';
let dir = '';
let fixture = '';
beforeAll(async () => {
  dir = await temporaryDir('names');
  fixture = await bundleFixture(join(import.meta.dirname, '../fixtures/container-lookup.ts'));
});
afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

/**
 * Looks up a name in a box, on a host whose resolv.conf has these lines. If `link` is given, resolv.conf is a symbolic
 * link to that path. Returns the resolv.conf of the box and the output of the look-up.
 */
async function lookUp(
  server: string,
  lines: readonly string[],
  link: string | null = null,
): Promise<{ file: string; found: string }> {
  const text = join(dir, 'resolv.conf');
  writeFileSync(text, `${lines.join('\n')}\n`);
  const etc = join(dir, 'etc');
  rmSync(etc, { recursive: true, force: true });
  mkdirSync(etc);
  const script =
    link === null
      ? 'mount --bind "$1" /etc/resolv.conf'
      : 'cp -a /etc/. "$2"; rm -f "$2/resolv.conf"; ln -s "$3" "$2/resolv.conf"; mount -t tmpfs tmpfs /run/lock; cp "$1" "$3"; mount --bind "$2" /etc';
  const { stdout } = await run('unshare', [
    '-mn',
    'sh',
    '-ec',
    `ip link set lo up; ${script}; exec "$4" "$5" "$6"`,
    'sh',
    text,
    etc,
    link ?? '',
    process.execPath,
    fixture,
    server,
  ]);
  return JSON.parse(stdout) as { file: string; found: string };
}

describeOnHost('a box with a network', () => {
  test('has the search list of the host, and uses a name server on the loopback interface of the host', async () => {
    const { file, found } = await lookUp('127.0.0.153', [
      'nameserver 127.0.0.153',
      'nameserver 198.51.100.2',
      'search one.example two.example',
      'options ndots:3 timeout:1',
    ]);
    expect(file).toBe(
      'nameserver 10.0.2.3\nnameserver 198.51.100.2\nsearch one.example two.example\noptions ndots:3 timeout:1\n',
    );
    expect(found).toContain(answer);
  });

  test('resolves names when resolv.conf of the host is a symbolic link', async () => {
    const { file, found } = await lookUp('127.0.0.153', ['nameserver 127.0.0.153'], '/run/lock/stub-resolv.conf');
    expect(file).toBe('nameserver 10.0.2.3\n');
    expect(found).toContain(answer);
  });

  test('resolves names when the host has only an IPv6 name server', async () => {
    const { file, found } = await lookUp('::1', ['nameserver ::1']);
    expect(file).toBe('nameserver fd00::3\n');
    expect(found).toContain(answer);
  });
});
