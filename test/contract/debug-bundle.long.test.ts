// Tests boxrun debug bundle with a real server, while it runs and after it has ended. The bundle has everything for a
// bug report, but no environment, labels, arguments or output of boxes.
import { execFile } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { cliBundle, startServer } from '../support/servers/server.ts';
import { collect } from '../support/servers/crash-server.ts';

const run = promisify(execFile);
const secrets = ['secret-of-a-box', 'secret-of-a-command', 'secret-label', 'secret-argument', 'spoken-aloud'];

/** Returns the names of the files in the bundle, and the text of all of them. */
async function unpack(path: string): Promise<{ names: string[]; text: string }> {
  const { stdout: listed } = await run('tar', ['-tzf', path]);
  const { stdout: text } = await run('tar', ['-xzOf', path], { maxBuffer: 64 * 2 ** 20 });
  return {
    names: listed
      .trim()
      .split('\n')
      .map((name) => name.replace('boxrun-debug/', '')),
    text,
  };
}

it('a debug bundle has logs, versions, findings and states, but no secret, with and without a server', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'boxrun-bundle-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const server = await startServer({ args: ['--log-level', 'trace'] });
  const { client, env } = server;
  const box = await client.create({
    image: 'base',
    name: 'kept',
    cpu: 1,
    memory_mb: 128,
    env: { PASSWORD: 'secret-of-a-box' },
    labels: { team: 'secret-label' },
  });
  const exec = await client.startExec('kept', {
    cmd: ['sh', '-c', 'printf "%s%s\\n" spoken- aloud', 'secret-argument'],
    env: { TOKEN: 'secret-of-a-command' },
  });
  expect((await collect(client, exec)).stdout).toBe('spoken-aloud\n');

  const bundle = async (name: string) => {
    const path = join(directory, name);
    const { stdout } = await run(process.execPath, [cliBundle, 'debug', 'bundle', '-o', path], { env });
    expect(stdout.trim()).toBe(path);
    expect((await stat(path)).mode & 0o077).toBe(0);
    return unpack(path);
  };
  const up = await bundle('up.tar.gz');
  expect(up.names).toEqual(
    expect.arrayContaining([
      'versions.json',
      'settings.json',
      'doctor.json',
      'states.json',
      'processes.json',
      'readyz.json',
      'metrics.txt',
      'logs/keeper.log',
      'logs/supervisor.log',
      'logs/gateway.log',
      'logs/writer.log',
      'logs/workers.log',
    ]),
  );
  for (const word of [
    box.id,
    exec.id,
    process.version,
    'boxrun_boxes{state="ready"} 1',
    'state directory',
    'box changes state',
  ])
    expect(up.text).toContain(word);
  for (const secret of secrets) expect(up.text, secret).not.toContain(secret);

  await client.stopBox('kept');
  await server.stop();
  const down = await bundle('down.tar.gz');
  expect(down.names).toEqual(up.names);
  expect(down.text).toContain(box.id);
  expect(down.text).toContain('"missing"');
  for (const secret of secrets) expect(down.text, secret).not.toContain(secret);
  await server.start();
  await server.close();
}, 120_000);
