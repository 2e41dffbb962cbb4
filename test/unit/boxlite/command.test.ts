// Tests the wrapper of commands: its arguments, and its script, which busybox runs on this machine with a directory in
// place of the cgroups. The tests of the script are skipped on a host without busybox.
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  exitCodeOf,
  wrapCommand,
  type WrappedCommand,
} from '../../../src/worker/drivers/boxlite/guest/guest-command.ts';

const plain: WrappedCommand = {
  execId: 'exec_1',
  cmd: ['ls', '-l'],
  workdir: '/root',
  isOwnDirectory: false,
  size: null,
  env: [],
};

describe('wrapping a command', () => {
  it('passes everything as arguments', () => {
    const { program, args } = wrapCommand({ ...plain, size: { cols: 80, rows: 24 } });
    expect(program).toBe('/.boxrun/busybox');
    expect(args.slice(0, 2)).toEqual(['sh', '-c']);
    expect(args.slice(3)).toEqual(['exec_1', '/root', '24', '80', '', '0', 'ls', '-l']);
  });

  it('passes variables as arguments if a shell would change or drop them', () => {
    const { args, env } = wrapCommand({
      ...plain,
      env: [
        ['A', '1'],
        ['a.b', '2'],
        ['IFS', ':'],
        ['_', '3'],
      ],
    });
    expect(env).toEqual([['A', '1']]);
    expect(args.slice(5)).toEqual(['', '', '', '3', 'a.b=2', 'IFS=:', '_=3', 'ls', '-l']);
  });

  it('puts no value into the script', () => {
    const script = wrapCommand(plain).args[2];
    expect(wrapCommand({ ...plain, cmd: ["'; rm -rf / #"], workdir: '$(id)' }).args[2]).toBe(script);
  });
});

it('the exit code of a command that signal n kills is 128 plus n', () => {
  expect([0, 7, 255, -9, -15].map(exitCodeOf)).toEqual([0, 7, 255, 137, 143]);
});

const busybox = ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path));

describe.skipIf(busybox === undefined)('the command wrapper in busybox', () => {
  let dir = '';

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'boxrun-wrapper-'));
    mkdirSync(join(dir, 'tools', 'cg'), { recursive: true });
    mkdirSync(join(dir, 'bin'));
    execFileSync('cp', ['-L', busybox ?? '', join(dir, 'tools', 'busybox')]);
    writeFileSync(join(dir, 'bin', 'show'), '#!/bin/sh\necho "$(basename "$0")" "$#" "$1"\n');
    writeFileSync(join(dir, 'bin', 'locked'), '#!/bin/sh\n');
    chmodSync(join(dir, 'bin', 'show'), 0o755);
  });

  afterAll(() => {
    rmSync(dir, { recursive: true, force: true });
  });

  /** Runs the wrapper as a box does, but with the paths of this test. */
  function run(command: Partial<WrappedCommand>, depth = 'max') {
    const wrapped = wrapCommand({ ...plain, workdir: dir, ...command });
    const group = join(dir, 'tools', 'cg', command.execId ?? 'exec_1');
    mkdirSync(group, { recursive: true });
    writeFileSync(join(group, 'cgroup.max.depth'), `${depth}\n`);
    const args = wrapped.args.map((arg, index) => (index === 2 ? arg.replaceAll('/.boxrun', join(dir, 'tools')) : arg));
    const env = Object.fromEntries([['PATH', `/nowhere::${join(dir, 'bin')}:/usr/bin:/bin`], ...wrapped.env]);
    const result = spawnSync(join(dir, 'tools', 'busybox'), args, { env, encoding: 'utf8', argv0: 'busybox' });
    return { exit: result.status, stdout: result.stdout, stderr: result.stderr };
  }

  it('becomes the command, with its arguments as they are', () => {
    expect(run({ cmd: ['show', 'a  b*', ''] })).toEqual({ exit: 0, stdout: 'show 2 a  b*\n', stderr: '' });
  });

  it('gives the command its name as argument 0', () => {
    const { stdout } = run({ cmd: ['cat', '/proc/self/cmdline'] });
    expect(stdout).toBe('cat\0/proc/self/cmdline\0');
  });

  it('neither adds nor removes variables of the environment', () => {
    const env: [string, string][] = [
      ['A', "it's\n$x"],
      ['odd.name', 'b'],
      ['SHLVL', '7'],
      ['IFS', 'q'],
    ];
    const lines = run({ cmd: ['env'], env })
      .stdout.split('\n')
      .filter((line) => line !== '' && !line.startsWith('PATH='));
    expect(lines.sort()).toEqual(['$x', "A=it's", 'IFS=q', 'SHLVL=7', 'odd.name=b'].sort());
    expect(run({ cmd: ['env'] }).stdout).toMatch(/^PATH=[^\n]*\n$/);
  });

  it('keeps the order of arguments when it sets unusual variables', () => {
    expect(
      run({
        cmd: ['show', 'first', 'second'],
        env: [
          ['x-y', '1'],
          ['_', '2'],
        ],
      }).stdout,
    ).toBe('show 2 first\n');
  });

  it('searches PATH for the command, and not the programs of busybox', () => {
    expect(run({ cmd: ['udhcpd'] })).toEqual({ exit: 127, stdout: '', stderr: 'boxrun: udhcpd: command not found\n' });
    expect(run({ cmd: [''] })).toEqual({ exit: 127, stdout: '', stderr: 'boxrun: : command not found\n' });
  });

  it('prints why a command cannot be run', () => {
    expect(run({ cmd: ['locked'] })).toEqual({
      exit: 126,
      stdout: '',
      stderr: `boxrun: ${join(dir, 'bin', 'locked')}: Permission denied\n`,
    });
    expect(run({ cmd: ['/no/such'] }).stderr).toBe('boxrun: /no/such: No such file or directory\n');
    expect(run({ cmd: ['/no/such'] }).exit).toBe(127);
    expect(run({ cmd: ['/usr'] })).toEqual({ exit: 126, stdout: '', stderr: 'boxrun: /usr: Is a directory\n' });
  });

  it('fails with 1 if the working directory does not exist', () => {
    expect(run({ workdir: "/a 'b" })).toEqual({
      exit: 1,
      stdout: '',
      stderr: "boxrun: cannot change to directory /a 'b: No such file or directory\n",
    });
    expect(run({ workdir: '/etc/passwd' }).stderr).toBe(
      'boxrun: cannot change to directory /etc/passwd: Not a directory\n',
    );
  });

  it('runs nothing if the command was killed before it started', () => {
    // The kill writes 0 into cgroup.max.depth as its mark.
    expect(run({ cmd: ['show'] }, '0')).toEqual({ exit: 137, stdout: '', stderr: '' });
  });
});
