// Tests the wrapper: the few lines of shell that run before every command. The host's busybox runs them here, as the
// box's busybox does in a box. Skipped on a host without busybox.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findBusybox } from '../../../src/shared/images/busybox.ts';
import { wrapCommand } from '../../../src/worker/drivers/container/exec/wrapper.ts';

const busybox = await findBusybox().catch(() => null);
let dir = '';
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'boxrun-test-wrapper-'));
  mkdirSync(join(dir, 'bin'));
  writeFileSync(join(dir, 'bin', 'show'), '#!/bin/sh\nprintf "[%s]" "$@"\necho " $VALUE"\n');
  writeFileSync(join(dir, 'bin', 'plain'), 'not executable');
  writeFileSync(join(dir, 'bin', 'ls'), '#!/bin/sh\necho my ls\n');
  for (const name of ['show', 'ls']) chmodSync(join(dir, 'bin', name), 0o755);
});
afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

async function run(
  cmd: readonly string[],
  options: { workdir?: string; env?: Record<string, string>; procsFile?: string } = {},
) {
  const { args, env } = wrapCommand({
    cmd,
    workdir: options.workdir ?? dir,
    isOwnDirectory: false,
    env: { PATH: `/nowhere:${dir}/bin`, ...options.env },
    isTerminal: false,
  });
  const [, ...rest] = args.map((arg) => arg.replaceAll('/dev/.boxrun/busybox', busybox ?? ''));
  const group = openSync(options.procsFile ?? join(dir, 'procs'), options.procsFile === undefined ? 'w' : 'r+');
  const child = spawn(busybox ?? '', rest, {
    env: Object.fromEntries(
      env.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
    ),
    // 3: cgroup.procs, 4: report, 5 to 7: the streams of the command.
    stdio: ['ignore', 'ignore', 'inherit', group, 'pipe', openSync('/dev/null', 'r'), 'pipe', 'pipe'],
  });
  const read = { out: '', err: '', report: '' };
  for (const [name, fd] of [
    ['report', 4],
    ['out', 6],
    ['err', 7],
  ] as const) {
    (child.stdio as readonly unknown[] as NodeJS.ReadableStream[])[fd]?.on(
      'data',
      (data) => (read[name] += String(data)),
    );
  }
  const [code] = (await once(child, 'close')) as [number];
  return { ...read, code };
}

describe.runIf(busybox !== null)('the wrapper', () => {
  test('joins the control group of the command, reports that, and becomes the command with unchanged arguments', async () => {
    expect(await run(['show', 'a b', '', '*', '$(id)', '-n'])).toEqual({
      out: '[a b][][*][$(id)][-n] \n',
      err: '',
      report: '\n',
      code: 0,
    });
    expect(readFileSync(join(dir, 'procs'), 'utf8')).toBe('0\n');
  });

  test("takes the command from its PATH, never from the shell's own programs", async () => {
    expect((await run(['ls'])).out).toBe('my ls\n');
    expect((await run(['cat', '/etc/passwd'])).code).toBe(127);
    expect((await run([`${dir}/bin/ls`])).out).toBe('my ls\n');
    expect((await run(['./bin/ls'])).out).toBe('my ls\n');
  });

  test('says which file is not found, not executable, or not a directory', async () => {
    expect(await run(['nosuch'])).toMatchObject({ code: 127, err: 'sh: nosuch: not found\n' });
    expect(await run(['plain'])).toMatchObject({ code: 126, err: 'sh: plain: Permission denied\n' });
    expect(await run(['/tmp'])).toMatchObject({ code: 126 });
    expect(await run([''])).toMatchObject({ code: 127 });
    expect(await run(['ls'], { workdir: '/no/where' })).toMatchObject({
      code: 1,
      err: "sh: cd: can't cd to /no/where: No such file or directory\n",
    });
    expect(await run(['ls'], { workdir: '/etc/passwd' })).toMatchObject({
      code: 1,
      err: "sh: cd: can't cd to /etc/passwd: Not a directory\n",
    });
  });

  test('runs nothing if the control group cannot be joined', async () => {
    const fileThatCannotBeWritten = '/proc/self/oom_score';
    const { code, out, report } = await run(['ls'], { procsFile: fileThatCannotBeWritten });
    expect([code, out, report]).toEqual([137, '', '']);
  });

  test.each([
    ['plain names', { VALUE: 'v' }],
    ['names that a shell removes', { VALUE: 'v', 'a.b-c': '1' }],
    ['names that a shell uses itself', { VALUE: 'v', IFS: 'v', OPTIND: '7', PS1: '$(id)' }],
  ])('keeps the arguments and VALUE beside %s', async (_what, env) => {
    expect((await run(['show', 'x y', '*', ''], { env })).out).toBe('[x y][*][] v\n');
  });
});
