// Tests the limits of commands on a real server with unusual limits, a umask of 077 and an empty /run of its own. The
// limits of a command do not depend on those of the server. A create can set them.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Box } from '../../src/shared/api.ts';
import { importImage } from '../../src/shared/images/import.ts';
import { makeSampleTars, tool } from '../support/boxes/image-files.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

const odd = [
  'mount -t tmpfs -o mode=755 tmpfs /run',
  'ulimit -Sn 4000',
  'ulimit -c unlimited',
  'ulimit -Ss 4096',
  'ulimit -Sl 64',
  'umask 077',
  'echo 300 > /proc/self/oom_score_adj',
  'exec "$@"',
].join('; ');

const wanted = {
  'cpu time': 'unlimited unlimited',
  'file size': 'unlimited unlimited',
  'data size': 'unlimited unlimited',
  'stack size': '8388608 unlimited',
  'core file size': '0 0',
  'resident set': 'unlimited unlimited',
  processes: 'unlimited unlimited',
  'open files': '1024 524288',
  'locked memory': '8388608 8388608',
  'address space': 'unlimited unlimited',
  'file locks': 'unlimited unlimited',
  'pending signals': '32768 32768',
  'msgqueue size': '819200 819200',
  'nice priority': '0 0',
  'realtime priority': '0 0',
  'realtime timeout': 'unlimited unlimited',
};

const limitsIn = (text: string) =>
  Object.fromEntries(
    [...text.matchAll(/^Max (\S+(?: \S+)*?) {2,}(\S+) +(\S+)/gm)].map(([, name, soft, hard]) => [
      name ?? '',
      `${soft} ${hard}`,
    ]),
  );
/** The hard limits of this process. A test that may not raise them expects them in a box, too. */
const own = limitsIn(readFileSync('/proc/self/limits', 'utf8'));
const lower = (one: string, other = 'unlimited') =>
  other === 'unlimited' || Number(one) <= Number(other) ? one : other;
const fixed = Object.fromEntries(
  Object.entries(wanted).map(([name, limit]) => {
    const ceiling = own[name]?.split(' ')[1];
    return [
      name,
      limit
        .split(' ')
        .map((value) => lower(value, ceiling))
        .join(' '),
    ];
  }),
);

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ launcher: ['unshare', '-m', 'sh', '-c', odd, 'sh'] });
});
afterAll(async () => {
  await server.close();
});

const output = async (box: string, script: string, rest: object = {}): Promise<string> =>
  (await server.client.exec(box, { cmd: ['sh', '-c', script], ...rest })).stdout;
/** The OCI runtime starts the first command of a box, and the agent starts later ones. A terminal has no pipes. */
const ways = ['the first command', 'a command by the agent', 'a command of a user', 'a terminal'] as const;
const toFile = async (box: string, way: (typeof ways)[number], script: string): Promise<string> => {
  await output(box, `{ ${script}; } > /tmp/said`, {
    ...(way === 'a terminal' ? { tty: true } : {}),
    ...(way === 'a command of a user' ? { user: '1000' } : {}),
    workdir: '/tmp',
  });
  return output(box, 'cat /tmp/said; rm -f /tmp/said');
};

describe('a command', () => {
  it('has the same limits, umask and oom score for every way to start it', async () => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    expect(box.ulimits).toBeNull();
    for (const way of ways) {
      const said = await toFile(box.id, way, 'cat /proc/self/limits; echo "$(umask) $(cat /proc/self/oom_score_adj)"');
      expect(limitsIn(said), way).toEqual(fixed);
      expect(said.trim().split('\n').at(-1), way).toBe('0022 0');
    }
  });

  it('has the ulimits of its box, also after a stop and a start', async () => {
    const ulimits = [
      { name: 'nofile' as const, soft: 100, hard: 200 },
      { name: 'core' as const, soft: 0, hard: -1 },
    ];
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128, ulimits });
    expect(box.ulimits).toEqual(ulimits);
    const expected = { ...fixed, 'open files': '100 200', 'core file size': '0 unlimited' };
    for (const way of ways) expect(limitsIn(await toFile(box.id, way, 'cat /proc/self/limits')), way).toEqual(expected);
    await server.client.stopBox(box.id);
    const started = await server.client.startBox(box.id);
    expect(started.ulimits).toEqual(ulimits);
    expect(limitsIn(await toFile(box.id, 'the first command', 'cat /proc/self/limits'))).toEqual(expected);
  });

  it('gets the ulimits that boxrun run or boxrun create names', async () => {
    const cli = async (...args: string[]) =>
      (await promisify(execFile)(process.execPath, [cliBundle, ...args], { env: server.env })).stdout;
    const args = ['--cpu', '1', '-m', '128', '--ulimit', 'nofile=64:128', '--ulimit', 'stack=1048576'];
    expect(await cli('run', 'base', ...args, '--', 'sh', '-c', 'ulimit -n; ulimit -Hn; ulimit -s')).toBe(
      '64\n128\n1024\n',
    );
    expect(JSON.parse(await cli('create', 'base', '--json', ...args)) as Box).toMatchObject({
      ulimits: [
        { name: 'nofile', soft: 64, hard: 128 },
        { name: 'stack', soft: 1048576, hard: 1048576 },
      ],
    });
  });

  it.each([
    [[{ name: 'files', soft: 1, hard: 1 }], "'ulimits' must be"],
    [[{ name: 'nofile', soft: 1 }], "'ulimits' is missing"],
    [[{ name: 'nofile', soft: -2, hard: 1 }], "'ulimits' must be"],
    [{ nofile: 1 }, "'ulimits' must be"],
    [[{ name: 'nofile', soft: 2, hard: 1 }], "the soft limit of 'nofile' is above the hard one"],
    [[{ name: 'core', soft: -1, hard: 1 }], "the soft limit of 'core' is above the hard one"],
    [[{ name: 'nofile', soft: 1, hard: -1 }], "the limit 'nofile' ends at 1048576"],
    [
      [
        { name: 'core', soft: 1, hard: 1 },
        { name: 'core', soft: 0, hard: 0 },
      ],
      "the limit 'core' is given twice",
    ],
  ])('cannot have the ulimits %j: the server refuses the create', async (ulimits, message) => {
    const answer = await server.call({ method: 'POST', path: '/v1/boxes', body: { image: 'base', ulimits } });
    expect({ status: answer.status, code: answer.json.code }).toEqual({ status: 422, code: 'VALIDATION_ERROR' });
    expect(answer.json.message).toContain(message);
  });
});

describe('when the umask of the server is 077', () => {
  it('every user of a box can read hosts, hostname and resolv.conf', async () => {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 128 });
    expect(await output(box.id, 'stat -c %a /etc/hosts /etc/hostname /etc/resolv.conf')).toBe('644\n644\n644\n');
    expect(await output(box.id, 'cat /etc/hosts', { user: '1000', workdir: '/' })).toContain('localhost');
  });

  it('root of a box owns directories that an imported tar does not name', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'boxrun-test-tar-'));
    try {
      await makeSampleTars(dir);
      // The tar has only files and links, so the unpacker has to make the directories.
      const tar = join(dir, 'bare.tar');
      tool('sh', ['-c', `find . ! -type d | tar --numeric-owner --owner=0 --group=0 --no-recursion -T - -cf ${tar}`], {
        cwd: join(dir, 'tree'),
      });
      await importImage(join(server.stateDir, 'images'), 'bare', tar);
      const box = await server.client.create({ image: 'bare', cpu: 1, memory_mb: 128, workdir: '/' });
      expect(await output(box.id, 'busybox stat -c "%u:%g %a" / /etc /bin')).toBe('0:0 755\n0:0 755\n0:0 755\n');
      expect(await output(box.id, 'busybox touch /new /etc/new /bin/new && echo written')).toBe('written\n');
      expect(await output(box.id, 'cat /etc/marker', { user: '1000', workdir: '/' })).toBe('sample\n');
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
});
