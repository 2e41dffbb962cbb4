// Tests `boxrun shell`, `boxrun attach` and `boxrun exec -t` in a real terminal, against a real server: tmux types into
// them, changes their size and reads the screen. The commands come from docs/cli.md.
import { execFile } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { makeProgramTar } from '../support/boxes/image-files.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processOf } from '../support/host/processes.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

const run = promisify(execFile);
const page = await readFile(join(import.meta.dirname, '../../docs/cli.md'), 'utf8');
const [execExample = '', attachExample = '', shellExample = ''] = [
  ...page.matchAll(/```sh terminal\nboxrun (.*?)\n```/gs),
].map(([, line]) => line ?? '');

const htop = '/usr/bin/htop';

let server: TestServer;
let directory: string;
let socket: string;

beforeAll(async () => {
  server = await startServer({ maxCpu: 8 });
  await server.client.create({ image: 'base', name: 'web', cpu: 1, memory_mb: 128 });
});
afterAll(async () => {
  await server.close();
});
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'boxrun-terminal-'));
  socket = join(directory, 'tmux.sock');
  const shell = {
    ...server.env,
    PATH: process.env['PATH'],
    TERM: 'xterm-256color',
    LANG: 'C.UTF-8',
    PS1: 'here> ',
    ENV: '',
  };
  await run('tmux', ['-S', socket, '-f', '/dev/null', 'new-session', '-d', '-x', '100', '-y', '30', 'sh'], {
    env: shell,
  });
});
afterEach(async () => {
  await run('tmux', ['-S', socket, 'kill-server']).catch(() => undefined);
  await rm(directory, { recursive: true, force: true });
});

const tmux = async (...args: string[]) => (await run('tmux', ['-S', socket, ...args])).stdout;
const type = (...keys: string[]) => tmux('send-keys', ...keys);
const screen = () => tmux('capture-pane', '-p');
const shows = (pattern: RegExp) =>
  eventually(`the screen shows ${pattern}`, async () => pattern.test(await screen()), 20_000).catch(
    async (error: Error) => {
      throw new Error(`${error.message}; it shows:\n${await screen()}`);
    },
  );
/**
 * Types a line at the prompt of the box until the screen shows its effect. The shell of busybox asks the terminal where
 * the cursor is, and drops all keys that come within 50 ms of the answer.
 */
const enter = (line: string, effect: RegExp) =>
  eventually(
    `'${line}' has its effect`,
    async () => {
      await type('C-u', line, 'Enter');
      return eventually('the effect', async () => effect.test(await screen()), 5_000).catch(() => false);
    },
    30_000,
  );
/** Runs a command of the documentation, and waits for the prompt in the box. */
async function open(line: string): Promise<void> {
  await type(
    `stty -a > ${directory}/before; "${process.execPath}" "${cliBundle}" ${line}; echo "exit code $?"; stty -a > ${directory}/after; echo 'back'' here'`,
    'Enter',
  );
  await shows(/^\S*\s?[#$] $|[#$]\s*\n*$/);
  await enter('echo "in"" the box"', /^in the box$/m);
}
async function isRestored(): Promise<void> {
  await shows(/^back here$/m);
  const modes = async (name: string) =>
    (await readFile(join(directory, name), 'utf8')).replace(/rows \d+; columns \d+;/, '');
  expect(await modes('after')).toBe(await modes('before'));
}

it('boxrun shell runs a shell and a full-screen editor in a new box, and removes the box at the end', async () => {
  await open(shellExample);
  await type('stty size', 'Enter');
  await shows(/^30 100$/m);
  await tmux('resize-window', '-x', '120', '-y', '40');
  await eventually('the size has changed', async () => {
    await type('stty size', 'Enter');
    return /^40 120$/m.test(await screen());
  });
  await type('clear; vi /tmp/note', 'Enter');
  await shows(/^~$/m);
  await type('i', 'written in vi');
  await shows(/^written in vi$/m);
  await type('Escape'); // Nothing may follow at once, or vi takes the Escape for the beginning of a longer key.
  await shows(/^- \/tmp\/note/m);
  await type(':wq', 'Enter');
  await shows(/^~ #\s*$/m);
  const [{ id } = { id: '' }] = await server.client.listBoxes();
  await eventually(
    'the file is written',
    async () => (await server.client.exec(id, ['cat', '/tmp/note'])).stdout === 'written in vi\n',
  );
  await type('C-c');
  await enter('exit 7', /^exit code 7$/m);
  await isRestored();
  await eventually('its box is gone', async () => (await server.client.listBoxes()).length === 1);
});

it('boxrun attach shows a line feed of the box unchanged, without adding a carriage return', async () => {
  await open(attachExample);
  await type("clear; stty -opost; printf 'one\\n*two\\r\\n'; stty opost", 'Enter');
  await shows(/^one\n {3}\*two$/m);
  await type('exit 0', 'Enter');
  await isRestored();
});

it('boxrun attach passes on a single Ctrl-P after a moment, and detaches with the keys of --detach-keys', async () => {
  await open(`${attachExample} --detach-keys ctrl-a,d`);
  await type('stty raw -echo; head -c 1 | od -An -c; stty sane', 'Enter');
  await type('C-a');
  await shows(/001/);
  await type('C-a', 'd');
  await shows(/^exit code 0$/m);
  await isRestored();
});

it('a full-screen editor in a box follows the size of the terminal', async () => {
  // The vim of this machine if there is one, otherwise the vi of busybox.
  const vim = existsSync('/usr/bin/vim') ? realpathSync('/usr/bin/vim') : null;
  const volumes = [{ host_path: '/usr', guest_path: '/usr', readonly: true }];
  await server.client.create({
    image: 'base',
    name: 'tools',
    cpu: 1,
    memory_mb: 256,
    ...(vim === null ? {} : { volumes }),
  });
  await server.client.exec('tools', [
    '/bin/busybox',
    'sh',
    '-c',
    'for dir in lib lib64; do /bin/busybox ln -s usr/$dir /$dir; done',
  ]);
  await open(attachExample.replace('web', 'tools'));
  await type(vim === null ? 'clear; vi /root/note' : `clear; ${vim} -u NONE -N /root/note`, 'Enter');
  await shows(/^~$/m);
  await type('i', 'one screen');
  await shows(/^one screen$/m);
  await tmux('resize-window', '-x', '90', '-y', '36');
  await type('Escape');
  // The editor must fill the whole terminal, which now has 36 lines.
  await eventually(
    'it fills the new size',
    async () => (await screen()).split('\n').filter((line) => line === '~').length >= 33,
  );
  await type(':wq', 'Enter');
  await eventually(
    'the file is written',
    async () => (await server.client.exec('tools', ['cat', '/root/note'])).stdout === 'one screen\n',
  );
  // Vim discards a part of the input that arrives while it ends.
  await eventually('the shell reads the keys', async () => {
    await type('C-c');
    await type('echo $((40 + 2))', 'Enter');
    return /^42$/m.test(await screen());
  });
  await type('exit 0', 'Enter'); // An explicit 0, because the rest of a discarded line may have been an error.
  await shows(/^exit code 0$/m);
  await isRestored();
  await server.client.removeBox('tools', { force: true });
});

it.skipIf(!existsSync(htop))(
  'htop in a box draws, follows the size of the terminal, and ends with q (scripts/setup.sh --test installs htop)',
  async () => {
    const tar = await makeProgramTar(directory, htop);
    await run(process.execPath, [cliBundle, 'images', 'import', 'htop', tar], { env: server.env });
    await server.client.create({ image: 'htop', name: 'watched', cpu: 1, memory_mb: 128 });
    await open(attachExample.replace('web', 'watched'));
    await type(`clear; ${htop}; echo "htop left with $?"`, 'Enter');
    const lastLine = /^F1Help .*F10Quit\s*$/;
    const screenLines = async () => (await screen()).replace(/\n$/, '').split('\n');
    await eventually('it fills the screen', async () => lastLine.test((await screenLines())[29] ?? ''));
    await shows(/^\s+\d+ (0|root) .* \/usr\/bin\/htop\s*$/m); // It lists its own process in the box.
    await tmux('resize-window', '-x', '110', '-y', '38');
    await eventually('it fills the new size', async () => lastLine.test((await screenLines())[37] ?? ''));
    await type('q');
    await shows(/^htop left with 0$/m);
    await type('exit', 'Enter');
    await shows(/^exit code 0$/m);
    await isRestored();
    await server.client.removeBox('watched', { force: true });
  },
);

it('boxrun attach detaches with Ctrl-P Ctrl-Q: its shell ends, and the box runs on', async () => {
  await open(attachExample);
  await type('C-p', 'C-q');
  await shows(/^exit code 0$/m);
  await isRestored();
  expect((await server.client.getBox('web')).status).toBe('running');
});

it('boxrun exec -t gives a command size, keys and TERM of this terminal, and returns its exit code', async () => {
  await open(execExample);
  await type('stty size; echo "$TERM"', 'Enter');
  await shows(/^30 100\n(tmux|screen)-256color$/m);
  await tmux('resize-window', '-x', '120', '-y', '40');
  await eventually('the size has changed', async () => {
    await type('stty size', 'Enter');
    return /^40 120$/m.test(await screen());
  });
  await type('sleep 4000; echo "sle""pt"', 'Enter');
  await eventually(
    'it sleeps',
    async () => (await server.client.exec('web', ['sh', '-c', 'ps | grep "[s]leep 4000"'])).exitCode === 0,
  );
  await type('C-c');
  await type('echo "awa""ke"', 'Enter');
  await shows(/^awake$/m);
  await type('exit 9', 'Enter');
  await shows(/^exit code 9$/m);
  await isRestored();
});

it('boxrun exec -t detaches with Ctrl-P Ctrl-Q, and the command goes on in the box', async () => {
  await open(execExample);
  await type('C-p', 'C-q');
  await shows(/the command goes on; to see it: boxrun logs -f box_\S+ exec_\S+$/m);
  await shows(/^exit code 0$/m);
  await isRestored();
  const [exec] = await server.client.listExecs('web');
  expect(exec?.status).toBe('running');
  await server.client.cancelExec('web', exec?.id ?? '');
});

it('boxrun exec -t restores the terminal when the command is canceled, and when the server is lost', async () => {
  await open(execExample);
  const [exec] = await server.client.listExecs('web');
  await server.client.cancelExec('web', exec?.id ?? '');
  await shows(/^exit code 137$/m);
  await isRestored();
  await type('clear', 'Enter');
  await open(execExample);
  process.kill((await processOf(server.stateDir, 'gateway')).pid, 'SIGKILL');
  await shows(/the input of the command was lost/);
  await shows(/^exit code 1$/m);
  await isRestored();
  await eventually('the gateway is back', async () =>
    server.client.info().then(
      () => true,
      () => false,
    ),
  );
});

it('boxrun attach restores the terminal when its box is removed', async () => {
  await open(attachExample);
  await server.client.removeBox('web', { force: true });
  await shows(/exit code 129$/m); // The shell gets SIGHUP.
  await isRestored();
});

it('boxrun attach restores the terminal when it gets SIGTERM', async () => {
  await server.client.create({ image: 'base', name: 'web', cpu: 1, memory_mb: 128 });
  await open(attachExample);
  const { stdout } = await run('pgrep', ['-f', `${cliBundle} ${attachExample}`]);
  for (const pid of stdout.trim().split('\n')) {
    const title = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (title.startsWith(process.execPath)) process.kill(Number(pid), 'SIGTERM');
  }
  await shows(/^exit code 143$/m);
  await isRestored();
});

it('boxrun attach without a terminal says that it needs one', async () => {
  const failed = await run(process.execPath, [cliBundle, 'attach', 'web'], { env: server.env }).catch(
    (error: { code: number; stderr: string }) => error,
  );
  expect(failed).toMatchObject({ code: 2 });
  expect(failed.stderr).toContain('needs a terminal');
});
