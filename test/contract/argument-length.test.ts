// Tests long arguments on a real server, over HTTP, in runs and on the command line.
// test/system/argument-length.test.ts tests the limits for each way to start a command.
import { execFile } from 'node:child_process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

const small = { image: 'base', cpu: 1, memory_mb: 128 };
const tooLong = 'sh: wc: Argument list too long\n';
let server: TestServer;
beforeAll(async () => {
  server = await startServer();
  await server.client.create({ ...small, name: 'web' });
});
afterAll(async () => {
  await server.close();
});

it('a command or run with an argument above 128 KiB ends with exit code 126 and a message, every time', async () => {
  const cmd = ['wc', 'ä'.repeat(65_536)];
  for (let time = 0; time < 3; time++) {
    expect(await server.client.exec('web', cmd)).toMatchObject({ exitCode: 126, stdout: '', stderr: tooLong });
  }
  const run = await server.call({ method: 'POST', path: '/v1/run', body: { ...small, cmd } });
  expect([run.status, run.json]).toEqual([200, { exit_code: 126, stdout: '', stderr: tooLong, error_message: null }]);
  const env = { LONG: 'x'.repeat(131_072) };
  expect(await server.client.exec('web', { cmd: ['wc'], env })).toMatchObject({ exitCode: 126, stderr: tooLong });
});

it('the API shows a command with a long argument unchanged, and refuses a body above its limit', async () => {
  const long = 'x'.repeat(200_000);
  const { json } = await server.call({
    method: 'POST',
    path: '/v1/boxes/web/exec?wait=10',
    body: { cmd: ['true', long] },
  });
  expect([json['exit_code'], json['cmd']]).toEqual([126, ['true', long]]);
  expect(
    (await server.call({ method: 'POST', path: '/v1/boxes/web/exec', body: { cmd: ['true', 'x'.repeat(1_100_000)] } }))
      .status,
  ).toBe(413);
});

it('the command line passes on the longest argument that the host allows', async () => {
  const said = await new Promise<string>((resolve) => {
    const script = 'printf %s "$0" | wc -c';
    execFile(
      process.execPath,
      [cliBundle, 'exec', 'web', '--', 'sh', '-c', script, '€'.repeat(43_690)],
      { env: server.env },
      (_error, stdout) => {
        resolve(stdout);
      },
    );
  });
  expect(said.trim()).toBe('131070');
});
