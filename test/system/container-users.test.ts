// Tests user, groups and HOME of commands in real boxes of the container driver. The driver looks them up in the files
// of the box for each command, for every way to start a command. It never reads a file of the host, even if the box has
// prepared links to it.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { ExecRequest } from '../../src/worker/drivers/driver-contract.ts';
import { describeOnHost, execPaths, useBoxes } from '../support/boxes/container-boxes.ts';
import type { DriverHarness } from '../support/boxes/driver-harness.ts';

const boxes = useBoxes();
const terminal = { cols: 80, rows: 24, term: 'xterm' };
const streams: ReadonlyArray<readonly [string, Partial<ExecRequest>]> = [
  ['a pipe', {}],
  ['a terminal', { tty: terminal }],
];
const ways = execPaths.flatMap(([path, create]) =>
  streams.map(([stream, request]) => [path, stream, create, request] as const),
);

/** Writes the answer to a file, so that the test does not depend on the output of a terminal. */
const ask = ['sh', '-c', 'echo "$(id -u):$(id -g):$(id -G):$HOME" > /tmp/who'];
const inBox = async (box: DriverHarness, script: string) => {
  expect(await box.run(['sh', '-c', script], { user: '0:0', workdir: '/' })).toMatchObject({ exit: { exitCode: 0 } });
};

describeOnHost.each(ways)('a command started by %s with %s', (_path, _stream, create, request) => {
  const whoAmI = async (box: DriverHarness, user: string | null) => {
    await inBox(box, 'rm -f /tmp/who');
    await box.run(ask, { ...request, user, workdir: '/' });
    return (await box.run(['cat', '/tmp/who'], { user: '0:0', workdir: '/' })).stdout.trim();
  };

  test('has the present ids, groups and HOME of its user, also as root', async () => {
    const box = await boxes.started({}, create);
    await inBox(box, 'echo "ana:x:1000:1000::/home/ana:/bin/sh" >> /etc/passwd; echo "ana:x:1000:" >> /etc/group');
    expect(await whoAmI(box, 'ana')).toBe('1000:1000:1000:/home/ana');
    expect(await whoAmI(box, null)).toBe('0:0:0:/root');
    await inBox(
      box,
      'echo "docker:x:99:ana,root" >> /etc/group; sed -i "s|^root:.*|root:x:0:0::/srv:/bin/sh|" /etc/passwd',
    );
    expect(await whoAmI(box, 'ana')).toBe('1000:1000:1000 99:/home/ana');
    for (const root of [null, 'root', '0']) expect(await whoAmI(box, root)).toBe('0:0:0 99:/srv');
    await inBox(box, 'sed -i "s|^ana:.*|ana:x:2000:100::/home/two:/bin/sh|" /etc/passwd');
    expect(await whoAmI(box, 'ana')).toBe('2000:100:100 99:/home/two');
    expect(await whoAmI(box, '2000')).toBe('2000:100:100 99:/home/two');
    await inBox(box, 'sed -i "/^ana:/d" /etc/passwd');
    await expect(whoAmI(box, 'ana')).rejects.toMatchObject({
      code: 'RUNTIME_ERROR',
      message: "there is no user 'ana' in the box",
    });
    expect(await whoAmI(box, '2000')).toBe('2000:0:0:/');
  });

  test('is refused when its user or group has an id above 65535', async () => {
    const box = await boxes.started({}, create);
    await inBox(
      box,
      'echo "big:x:4294967295:0::/:/bin/sh" >> /etc/passwd; echo "ana:x:1000:1000::/:/bin/sh" >> /etc/passwd',
    );
    await inBox(box, 'echo "huge:x:4294967295:ana" >> /etc/group');
    for (const user of ['4294967295', '65536', '4294967296', '1000:4294967295', 'big', 'ana', '99999999999999999999']) {
      await expect(whoAmI(box, user), user).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
    }
    expect(await whoAmI(box, '65535:65535')).toBe('65535:65535:65535:/');
  });
});

describeOnHost('the look-up of a user', () => {
  test('follows links inside the box, and never reads a file of the host', async () => {
    const box = await boxes.started();
    const secret = join(box.dir, 'passwd');
    await writeFile(secret, 'spy:x:4711:4711::/host:/bin/sh\n', { mode: 0o644 });
    const home = async (user: string) =>
      (await box.run(['sh', '-c', 'grep Uid: /proc/self/status | cut -f2; echo $HOME'], { user, workdir: '/' })).stdout;
    await inBox(
      box,
      'mkdir -p /srv/users; ln -s /srv/users /srv/dir; echo "ana:x:1000:1000::/in/box:/bin/sh" > /srv/users/passwd',
    );
    for (const target of [
      '/srv/users/passwd',
      '../srv/users/passwd',
      '../../../../srv/./users//passwd',
      '/etc/link2',
      '/srv/dir/passwd',
      '/srv/dir/../dir/passwd',
    ]) {
      await inBox(box, `ln -sf ../srv/users/../users/passwd /etc/link2; ln -sf ${target} /etc/passwd`);
      expect(await home('ana'), target).toBe('1000\n/in/box\n');
    }
    const climb = '../'.repeat(20);
    for (const target of [
      secret,
      `${climb}${secret}`,
      `/proc/1/root${secret}`,
      `/proc/1/cwd/${climb}${secret}`,
      '/etc/passwd',
      '/etc',
    ]) {
      await inBox(box, `ln -sfn ${target} /etc/passwd`);
      await expect(home('spy'), target).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
    }
    for (const script of [
      'mkfifo /etc/passwd',
      'ln -s /dev/zero /etc/passwd',
      'mkdir /etc/passwd',
      'ln -s /proc/kmsg /etc/passwd',
      'true',
    ]) {
      await inBox(box, `rm -rf /etc/passwd; ${script}`);
      expect(await home('1000'), script).toBe('1000\n/\n');
      expect(await home('root'), script).toBe('0\n/root\n');
    }
  });
});
