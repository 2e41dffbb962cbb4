// Tests the logs of all processes of a real server. They name the box, the command and the request. They never contain
// the environment or the output of a command.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { collect, startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';

let server: CrashServer;
afterEach(async () => {
  await server.close();
});

interface Line {
  readonly role: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

async function allLogs(): Promise<string> {
  const dir = join(server.stateDir, 'logs');
  return (await Promise.all((await readdir(dir)).map((name) => readFile(join(dir, name), 'utf8')))).join('');
}

const lines = async () =>
  (await allLogs())
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);

it('the logs name boxes, commands and requests, but no environment or output, even at level trace', async () => {
  server = await startCrashServer({ args: ['--workers', '0', '--log-level', 'trace'] });
  const { client } = server;
  const env = { PASSWORD: 'secret-of-a-box' };
  const box = await client.create({ image: 'base', name: 'quiet', cpu: 1, memory_mb: 128, env });
  const say = {
    cmd: ['sh', '-c', 'printf "%s%s\\n" spoken- aloud; printf "%s%s\\n" whispered- softly >&2; echo "$TOKEN"'],
    env: { TOKEN: 'secret-of-a-command' },
  };
  const exec = await client.startExec('quiet', say);
  const { stdout } = await collect(client, exec);
  expect(stdout).toContain('spoken-aloud');
  expect(stdout).toContain('secret-of-a-command');
  // The server logs these failures. They must not reveal anything either.
  await collect(client, await client.startExec('quiet', { cmd: ['/no/such/program'], env: say.env }));
  await collect(client, await client.startExec('quiet', { ...say, workdir: '/nowhere' }));
  await collect(client, await client.startExec('quiet', { cmd: ['sleep', '100'], env: say.env, timeout_ms: 50 }));
  const lost = await client.startExec('quiet', { cmd: ['sleep', '100'], env: say.env });
  await server.kill('worker', box.id);
  await eventually('commands run again', () =>
    client.startExec('quiet', { cmd: ['true'] }).then(
      () => true,
      () => false,
    ),
  );
  await client.cancelExec('quiet', lost.id);
  await client.stopBox('quiet');
  await client.startBox('quiet');

  const text = await allLogs();
  for (const secret of ['secret-of-a-box', 'secret-of-a-command', 'spoken-aloud', 'whispered-softly']) {
    expect(
      text.split('\n').filter((line) => line.includes(secret)),
      secret,
    ).toEqual([]);
  }
  const said = await lines();
  const states = said
    .filter(({ msg, boxId }) => msg === 'box changes state' && boxId === box.id)
    .map(({ from, to, cause }) => [from, to, cause]);
  expect(states.slice(0, 3)).toEqual([
    ['creating', 'ready', 'brought-up'],
    ['ready', 'recovering', 'worker-died'],
    ['recovering', 'ready', 'brought-up'],
  ]);
  const ofExec = said.filter(({ execId, msg }) => execId === exec.id && msg === 'exec changes state');
  expect(ofExec.map(({ to, cause }) => [to, cause])).toEqual([
    ['running', 'started'],
    ['exited', 'exited'],
  ]);
  expect(ofExec[0]).toMatchObject({
    role: 'worker',
    boxId: box.id,
    workerId: expect.stringMatching(/^wrk_/) as unknown,
  });
  // The same request id is in the logs of each process.
  const { requestId } = ofExec[0] as Line;
  const roles = new Set(said.filter((line) => line['requestId'] === requestId).map(({ role }) => role));
  expect(roles).toEqual(new Set(['gateway', 'supervisor', 'worker']));
});

it('the logs are plain text lines with --log-format pretty', async () => {
  server = await startCrashServer({ args: ['--workers', '0', '--log-format', 'pretty'] });
  const box = await server.client.create({ image: 'base', name: 'shown', cpu: 1, memory_mb: 128 });
  const text = await readFile(join(server.stateDir, 'logs', 'supervisor.log'), 'utf8');
  expect(text).toMatch(/^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] INFO .*box changes state.*creating.*ready/m);
  expect(text).toContain(box.id);
});
