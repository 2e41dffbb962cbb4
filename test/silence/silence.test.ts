// Measures the time until each command says something or ends, on three hosts: one with an empty state directory, one
// whose server has ended, and one that boots no micro-VM. No command may be silent for longer than limits.waitNoticeMs,
// plus three times the start of `boxrun --version` and 100 ms.
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { commandTable } from '../../src/cli/commands/command-table.ts';
import { limits } from '../../src/shared/limits.ts';
import { cliBundle } from '../support/servers/server.ts';

/** A line for every command. A `>` at the beginning means that the command has no end and is interrupted. */
const lines: Readonly<Record<string, readonly string[]>> = {
  serve: ['> serve --port 0'],
  server: ['server status', 'server logs', 'server restart', 'server stop'],
  service: ['service install --print', 'service status'],
  create: ['create base -n one --cpu 1 -m 64m'],
  ls: ['ls', 'ps --format json'],
  inspect: ['inspect one'],
  stats: ['stats --no-stream', '> stats'],
  top: ['top one'],
  rename: ['rename one two'],
  label: ['label two a=b'],
  restart: ['restart two'],
  exec: ['exec two true'],
  execs: ['execs two'],
  logs: ['logs two'],
  wait: ['wait two'],
  cp: ['cp two:/etc/passwd -'],
  ports: ['ports two'],
  forward: ['> forward two 0:80'],
  url: ['url two 80'],
  stop: ['stop two'],
  start: ['start two'],
  kill: ['kill two'],
  rm: ['rm -f two'],
  run: ['run --cpu 1 -m 64m base echo hello'],
  attach: ['attach two'],
  shell: ['shell base --cpu 1 -m 64m'],
  gc: ['gc'],
  prune: ['prune -f'],
  images: ['images', 'images import mine no-such-file'],
  pull: ['pull base', 'pull 127.0.0.1:9/no:image'],
  rmi: ['rmi mine'],
  info: ['info'],
  events: ['> events'],
  ui: ['ui'],
  doctor: ['doctor --fresh --driver container'],
  debug: ['debug bundle -o bundle.tar.gz'],
  completion: ['completion bash'],
  version: ['version', '--help'],
  upgrade: ['upgrade --dry-run'],
  uninstall: ['uninstall --dry-run --purge-data'],
};

interface Times {
  /** Milliseconds until the first output, or until the end if there is none. */
  readonly silentMs: number;
  readonly ms: number;
}

let top: string;

/** Runs one line to its end. A command without an end gets SIGINT after its first output, or after five seconds. */
function stopwatch(line: string, env: NodeJS.ProcessEnv): Promise<Times> {
  const isEndless = line.startsWith('> ');
  const args = line.replace(/^> /, '').split(' ');
  return new Promise((resolve) => {
    const from = performance.now();
    let silentMs: number | null = null;
    const child = spawn(process.execPath, ['--', cliBundle, ...args], {
      cwd: top,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const interrupt = () => child.kill('SIGINT');
    const timer = isEndless ? setTimeout(interrupt, 5_000) : undefined;
    const heard = () => {
      silentMs ??= performance.now() - from;
      if (isEndless) interrupt();
    };
    child.stdout.on('data', heard);
    child.stderr.on('data', heard);
    child.once('close', () => {
      clearTimeout(timer);
      const ms = performance.now() - from;
      resolve({ silentMs: silentMs ?? ms, ms });
    });
  });
}

beforeAll(async () => {
  top = await mkdtemp(join(tmpdir(), 'boxrun-silence-'));
});
afterAll(async () => {
  await rm(top, { recursive: true, force: true });
});

it('the list has every command', () => {
  expect(Object.keys(lines).sort()).toEqual(commandTable.map(({ name }) => name).sort());
});

type Host = 'an empty state directory' | 'a server that has ended' | 'no micro-VM';

describe.each<[Host]>([['an empty state directory'], ['a server that has ended'], ['no micro-VM']])(
  'a host with %s',
  (host) => {
    const environment = (stateDir: string): NodeJS.ProcessEnv => ({
      PATH: process.env['PATH'],
      HOME: top,
      BOXRUN_STATE_DIR: stateDir,
      BOXRUN_PORT: '0',
      BOXRUN_WORKERS: '1',
      BOXRUN_SOCKET: join(stateDir, 'boxrun.sock'),
      ...(host === 'no micro-VM' ? { BOXRUN_DRIVER: 'boxlite' } : { BOXRUN_DRIVER: 'container' }),
    });

    it('no command is silent for long', async () => {
      const rows: (Times & { readonly line: string; readonly startMs: number })[] = [];
      const shared = join(top, host.replaceAll(' ', '-'));
      for (const line of Object.values(lines).flat()) {
        // The probe of the driver and the start of the server happen once more for each command of an empty directory.
        const stateDir = host === 'an empty state directory' ? await mkdtemp(join(top, 'state-')) : shared;
        const env = environment(stateDir);
        if (host === 'a server that has ended') await stopwatch('server stop', env);
        const { ms: startMs } = await stopwatch('--version', env);
        rows.push({ line, startMs, ...(await stopwatch(line, env)) });
        if (host === 'an empty state directory') await endServer(env, stateDir);
      }
      await endServer(environment(shared), shared);
      const table = rows.map((row) =>
        [row.silentMs.toFixed(0), row.ms.toFixed(0), row.startMs.toFixed(0), row.line].join('\t'),
      );
      console.log([`${host}: silent ms, all ms, ms of --version just before, command`, ...table].join('\n'));
      expect(rows.filter(({ silentMs, startMs }) => silentMs > limits.waitNoticeMs + 3 * startMs + 100)).toEqual([]);
    }, 1_200_000);
  },
);

async function endServer(env: NodeJS.ProcessEnv, stateDir: string): Promise<void> {
  await stopwatch('rm -f -a', env);
  await stopwatch('server stop', env);
  await rm(stateDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}
