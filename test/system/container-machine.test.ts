// What programs expect of a machine: memory for sharing, ping and low ports for everyone, renames of directories that
// came with the image, and system calls that are missing instead of forbidden where the machine could do without.
import { execFileSync } from 'node:child_process';
import { chmodSync, rmSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeOnHost, execPaths, useBoxes } from '../support/boxes/container-boxes.ts';
import { temporaryDir } from '../support/boxes/driver-harness.ts';

const allBoxes = useBoxes();
let dir = '';
beforeAll(async () => {
  dir = await temporaryDir('machine');
  chmodSync(dir, 0o755);
  execFileSync('gcc', [
    '-static',
    '-O1',
    '-o',
    join(dir, 'ordinary'),
    join(import.meta.dirname, '../fixtures/ordinary.c'),
  ]);
});
afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

describeOnHost.each(execPaths)('by %s, a program', (_path, create) => {
  const boxes = allBoxes.by(create);

  test.each(['0:0', '1000:1000', '65535:65535'])(
    'of user %s may ping and listen below 1024, and finds no NUMA',
    async (user) => {
      const box = await boxes.started({
        spec: { volumes: [{ host_path: dir, guest_path: '/probe', readonly: true }] },
      });
      const { stdout } = await box.run(['/probe/ordinary'], { user, workdir: '/' });
      const missing = ['mbind', 'get_mempolicy', 'set_mempolicy', 'migrate_pages', 'move_pages'].map(
        (name) => `${name} ${constants.errno.ENOSYS}`,
      );
      expect(stdout.trim().split('\n')).toEqual([...missing, 'ping 0', 'listen 0']);
    },
  );

  test('may put half of the memory of the box into /dev/shm', async () => {
    for (const [memoryMb, shmKb] of [
      [64, '32768'],
      [512, '262144'],
    ] as const) {
      const box = await boxes.started({ spec: { memoryMb } });
      expect((await box.run(['sh', '-c', `df -k /dev/shm | tail -n 1 | awk '{print $2}'`])).stdout.trim()).toBe(shmKb);
    }
  });

  test('may rename a directory of the image, and finds it there after a restart of the box', async () => {
    const box = await boxes.started({ spec: { volumes: [{ host_path: dir, guest_path: '/probe', readonly: true }] } });
    // With rename(2) itself: mv would copy where that is refused.
    const rename = async (from: string, to: string) =>
      (await box.run(['/probe/ordinary', from, to], { workdir: '/' })).stdout;
    expect(await rename('/root', '/was-root')).toBe('rename 0\n');
    expect(await rename('/bin', '/was-bin')).toBe('rename 0\n');
    await box.driver.stop(0);
    await box.start();
    const { stdout } = await box.run(['/was-bin/ls', '-d', '/was-root', '/was-bin/sh', '/bin'], { workdir: '/' });
    expect(stdout).toBe('/was-bin/sh\n/was-root\n');
    expect(await rename('/was-bin', '/bin')).toBe('rename 0\n');
    expect((await box.run(['true'])).exit).toEqual({ exitCode: 0 });
  });
});
