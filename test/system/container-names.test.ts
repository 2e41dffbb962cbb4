// Names in boxes with a network, where the host's /etc/resolv.conf is unusual. The driver runs in a process with
// another file in its place and a network of its own, where a name server answers every question at the address that
// the file says.
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

/** What a box says of its names, on a host whose resolv.conf has these lines; by a link where `link` is one. */
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
  test('has the search list and options of the host, and asks its name server, which only the host can reach', async () => {
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

  test('finds names where the host has a link in place of the file', async () => {
    const { file, found } = await lookUp('127.0.0.153', ['nameserver 127.0.0.153'], '/run/lock/stub-resolv.conf');
    expect(file).toBe('nameserver 10.0.2.3\n');
    expect(found).toContain(answer);
  });

  test('finds names where the host has a name server by IPv6 only', async () => {
    const { file, found } = await lookUp('::1', ['nameserver ::1']);
    expect(file).toBe('nameserver fd00::3\n');
    expect(found).toContain(answer);
  });
});
