// Tests completion in real shells, against a real server: each shell runs in a terminal (tmux), loads its script as
// docs/cli.md says, and gets typed input. The effect of the command shows whether the name was completed.
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/runs/eventually.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

const run = promisify(execFile);

/** How the test starts each shell, without the settings of this user, and how the shell loads its script. */
const shells = {
  bash: { start: ['bash', '--norc', '--noprofile', '-i'], load: 'source <(boxrun completion bash)' },
  zsh: { start: ['zsh', '-f', '-i'], load: 'autoload -Uz compinit; compinit -u -D; source <(boxrun completion zsh)' },
  fish: { start: ['fish', '--no-config', '--private', '-i'], load: 'boxrun completion fish | source' },
} as const;

let server: TestServer;
let directory: string;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  server = await startServer({ maxCpu: 8 });
  await server.client.create({ image: 'base', name: 'web-server', cpu: 1, memory_mb: 64 });
  await server.client.create({ image: 'base', name: 'database', cpu: 1, memory_mb: 64 });
  directory = await mkdtemp(join(tmpdir(), 'boxrun-completion-'));
  await mkdir(join(directory, 'bin'));
  await writeFile(join(directory, 'bin/boxrun'), `#!/bin/sh\nexec "${process.execPath}" "${cliBundle}" "$@"\n`);
  await chmod(join(directory, 'bin/boxrun'), 0o755);
  await writeFile(join(directory, 'local-notes.txt'), 'local\n');
  env = {
    ...server.env,
    PATH: `${join(directory, 'bin')}:${process.env['PATH']}`,
    TERM: 'xterm-256color',
    LANG: 'C.UTF-8',
    HOME: directory,
  };
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
  await server.close();
});

describe.each(Object.entries(shells))('completion in %s', (name, { start, load }) => {
  const socket = () => join(directory, `${name}.sock`);
  const tmux = async (...args: string[]) =>
    (await run('tmux', ['-S', socket(), ...args], { env, cwd: directory })).stdout;
  const type = (...keys: string[]) => tmux('send-keys', ...keys);
  const shows = (pattern: RegExp) =>
    eventually(`the screen shows ${pattern}`, async () => pattern.test(await tmux('capture-pane', '-p')), 20_000).catch(
      async (error: Error) => {
        throw new Error(`${error.message}; it shows:\n${await tmux('capture-pane', '-p')}`);
      },
    );

  beforeAll(async () => {
    await run(start[0], ['--version']).catch((error: unknown) => {
      throw new Error(
        `${name} is missing on this host, so its completion cannot be tried: scripts/setup.sh --test installs it (${String(error)})`,
      );
    });
    await tmux('-f', '/dev/null', 'new-session', '-d', '-x', '120', '-y', '40', ...start);
    await type(load, 'Enter');
    // The typed line has other characters than its output, so the pattern matches the output only.
    await type('echo "lo""aded"', 'Enter');
    await shows(/^loaded$/m);
  });
  afterAll(async () => {
    await tmux('kill-server').catch(() => undefined);
  });

  it('completes commands and flags', async () => {
    await type('clear', 'Enter');
    await type('boxrun imag', 'Tab', '--qui', 'Tab', 'Enter');
    await shows(/^base$/m);
  });

  it('lists the possible flags', async () => {
    await type('clear', 'Enter');
    await type('boxrun unins', 'Tab', '--', 'Tab', 'Tab');
    await shows(/--keep-data\b[^]*--purge-data\b/);
    await type('C-c');
  });

  it('completes the name of a running box', async () => {
    await type('clear', 'Enter');
    await type('boxrun exec w', 'Tab', '-- echo "it ""works"', 'Enter');
    await shows(/^it works$/m);
  });

  it('completes a file of this host and the name of a box for cp', async () => {
    await type('clear', 'Enter');
    await type('boxrun cp local-n', 'Tab', ' dat', 'Tab', `/root/from-${name} && echo "co""pied"`, 'Enter');
    await shows(/^copied$/m);
    expect((await server.client.exec('database', ['cat', `/root/from-${name}`])).stdout).toBe('local\n');
  });

  it('does not disturb the command line when nothing matches', async () => {
    await type('clear', 'Enter');
    await type('boxrun exec nob', 'Tab', ' || echo "end ""of line"', 'Enter');
    await shows(/^end of line$/m);
  });
});

it('fish lists the names of boxes when it is asked for completions', async () => {
  const { stdout } = await run(
    'fish',
    ['--no-config', '-c', 'boxrun completion fish | source; complete -C "boxrun exec "'],
    { env },
  );
  expect(
    stdout
      .split('\n')
      .filter((line) => line !== '')
      .sort(),
  ).toEqual(['database', 'web-server']);
});
