// Tests cases from public bug reports about other tools that run containers, on a real server. The comment of a case
// names its report.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
  await server.client.create({ image: 'base', name: 'web', cpu: 1, memory_mb: 128 });
});
afterAll(async () => {
  await server.close();
});

interface Said {
  readonly out: string;
  readonly err: string;
  readonly code: number | null;
}

async function run(script: string, rest: object = {}): Promise<Said> {
  const { stdout, stderr, exitCode } = await server.client.exec('web', { cmd: ['sh', '-c', script], ...rest });
  return { out: stdout, err: stderr, code: exitCode };
}

it('a variable keeps line breaks, equals signs, quotes and an empty value', async () => {
  // podman 2809, podman-desktop 8282, podman 21257
  const env = { KEY: '-----BEGIN\nabc==\n-----END\n', ARGS: '--host=a.xml --foo-=bar', QUOTED: `"a' $x`, EMPTY: '' };
  const { out } = await run('printf "%s|%s|%s|%s|" "$KEY" "$ARGS" "$QUOTED" "${EMPTY-missing}"', { env });
  expect(out).toBe(`${env.KEY}|${env.ARGS}|${env.QUOTED}||`);
});

it('a command does not inherit variables of another command', async () => {
  // podman 5255, crun 282
  const sleeping = await server.client.startExec('web', { cmd: ['sleep', '1000'], env: { LEAKED: 'x' } });
  expect((await run('env')).out).not.toContain('LEAKED');
  await server.client.cancelExec('web', sleeping.id);
});

it('a user without an entry has no additional groups', async () => {
  // nerdctl 154, uutils 10307
  expect((await run('id -u; id -g; id -G; echo $HOME', { user: '4321' })).out).toBe('4321\n0\n0\n/\n');
  expect((await run('id -u; id -g; id -G', { user: '4321:7' })).out).toBe('4321\n7\n7\n');
});

it('a command ends although its child in the background keeps the output open', async () => {
  // kata 1160, prime 305, pi-sandbox 76
  const startedAt = performance.now();
  expect(await run('sleep 100 & echo done')).toMatchObject({ out: 'done\n', code: 0 });
  expect(performance.now() - startedAt).toBeLessThan(30_000);
  await run('pkill sleep');
});

it('a command that does not exist fails at once', async () => {
  // kata 8026
  const startedAt = performance.now();
  const { exitCode, stderr } = await server.client.exec('web', { cmd: ['/no/such/program'] });
  expect(exitCode).toBe(127);
  expect(stderr).toContain('/no/such/program');
  expect(performance.now() - startedAt).toBeLessThan(20_000);
});

it('a directory that does not exist is an error that names it', async () => {
  // podman 5084, e2b 934, SIRF 544
  const { code, err } = await run('pwd', { workdir: '/none/such' });
  expect(code).not.toBe(0);
  expect(err).toContain('/none/such');
  expect((await run('test -e /none')).code).toBe(1);
});

it('root may use a directory that belongs to another user with mode 0700', async () => {
  // for-win 4133
  await run('mkdir -p /srv/private && chown 1000:1000 /srv/private && chmod 700 /srv/private');
  expect((await run('pwd; touch file && stat -c %u file', { workdir: '/srv/private' })).out).toBe('/srv/private\n0\n');
});

it('characters of several bytes stay whole in long output', async () => {
  // eliza 29883
  const { out } = await run(
    'i=0; while [ $i -lt 3000 ]; do printf "a€😀ü"; printf "日本語日本語日本語"; i=$((i+1)); done',
  );
  expect(out).toBe('a€😀ü日本語日本語日本語'.repeat(3000));
});

it('a terminal has a name, a size from the beginning, job control, and a parent that is a process group', async () => {
  // moby 35407, for-linux 314, podman 351, gvisor 421, gvisor 11582, gvisor 3045
  const { out } = await run('tty; stty size; test -c /dev/tty && : >/dev/tty && echo open; set -m && echo jobs', {
    tty: true,
    cols: 132,
    rows: 43,
  });
  expect(out.replaceAll('\r', '')).toMatch(/^\/dev\/pts\/\d+\n43 132\nopen\njobs\n$/);
});

it('output can be opened again through /dev/stdout and /proc/self/fd, by another user too', async () => {
  // gvisor 6180, gvisor 2644
  for (const user of ['0', '1000']) {
    const { out, err } = await run('echo a >/dev/stdout; echo b >/proc/self/fd/1; echo c >/dev/stderr', { user });
    expect([user, out, err]).toEqual([user, 'a\nb\n', 'c\n']);
  }
});

it('the name localhost has an address that can be bound', async () => {
  // containerd 6736, moby 35954
  const { out } = await run('cat /etc/hosts; cat /proc/net/if_inet6');
  expect(out).toMatch(/^127\.0\.0\.1\s+localhost/m);
  if (/^::1\s/m.test(out)) expect(out).toMatch(/^0{31}1 /m);
});

it('the name of the box resolves in it', async () => {
  // singularity 615
  expect((await run('grep -w "$(hostname)" /etc/hosts')).code).toBe(0);
});

it('a command whose input is closed sees its end, and one without input does not wait', async () => {
  // deer-flow 3864, Raven 550
  expect(await run('cat; read x; echo "$? done"')).toMatchObject({ out: '1 done\n', code: 0 });
});

it('a shell built-in is no program, and says so', async () => {
  // docker cli 2881
  const { exitCode, stderr } = await server.client.exec('web', { cmd: ['cd', '/'] });
  expect([exitCode, stderr.length > 0]).toEqual([127, true]);
});

it('a command killed by a signal in a terminal has 128 and the signal, too', async () => {
  // kata 13241
  for (const tty of [false, true]) expect((await run('kill -TERM $$', { tty })).code, String(tty)).toBe(143);
});
