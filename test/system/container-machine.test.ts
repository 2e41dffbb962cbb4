// Tests what programs expect of a machine, in real boxes of the container driver: shared memory, ping and low ports for
// every user, and renames of directories of the image. NUMA calls are missing (ENOSYS) instead of forbidden (EPERM), so
// programs do without them.
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

describeOnHost.each(execPaths)('a program started by %s', (_path, create) => {
  const boxes = allBoxes.by(create);

  test.each(['0:0', '1000:1000', '65535:65535'])(
    'can ping and listen below port 1024 as user %s, and gets ENOSYS from NUMA calls',
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

  test('finds a /dev/shm of half of the memory of the box', async () => {
    for (const [memoryMb, shmKb] of [
      [64, '32768'],
      [512, '262144'],
    ] as const) {
      const box = await boxes.started({ spec: { memoryMb } });
      expect((await box.run(['sh', '-c', `df -k /dev/shm | tail -n 1 | awk '{print $2}'`])).stdout.trim()).toBe(shmKb);
    }
  });

  test('can rename a directory of the image, and the new name is there after a restart of the box', async () => {
    const box = await boxes.started({ spec: { volumes: [{ host_path: dir, guest_path: '/probe', readonly: true }] } });
    // The program calls rename(2) itself, because mv copies when rename(2) is refused.
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
