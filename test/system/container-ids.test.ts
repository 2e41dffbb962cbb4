// Tests that each real box has its own range of ids on the host. The kernel counts some resources per user, so a box
// cannot take them from the host or from another box. A box keeps the owners of its files when it moves from the shared
// range to its own.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { creatorOf, rangeOf, sharedRange } from '../../src/shared/host/id-ranges.ts';
import { boxPaths } from '../../src/worker/drivers/container/paths.ts';
import { loadJson, type RunState } from '../../src/worker/drivers/container/box/record.ts';
import { createContainer, describeOnHost, execPaths, useBoxes } from '../support/boxes/container-boxes.ts';
import { bindDriver, temporaryDir, type DriverHarness } from '../support/boxes/driver-harness.ts';

const boxes = useBoxes();
let dir = '';
let program = '';
beforeAll(async () => {
  dir = await temporaryDir('counted');
  chmodSync(dir, 0o755);
  program = join(dir, 'counted');
  execFileSync('gcc', ['-static', '-O1', '-o', program, join(import.meta.dirname, '../fixtures/counted.c')]);
});
afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

/**
 * What `counted probe` prints when nothing is used up: 0 for each resource, and a pipe of full size. flying:
 * descriptors that are being sent over sockets.
 */
const nothingTaken = 'inotify 0\ntimer 0\nqueue 0\npipe 65536\nflying 0\n';
const sees = (idBlock: number | null) => ({
  spec: { idBlock, volumes: [{ host_path: dir, guest_path: '/probe', readonly: true }] },
});
const stateOf = (box: DriverHarness) => loadJson<RunState>(boxPaths(box.context.homeDir).runState);
const mapOf = (box: DriverHarness) =>
  readFileSync(`/proc/${stateOf(box)?.init.pid}/uid_map`, 'utf8')
    .trim()
    .split(/\s+/)
    .map(Number);

describeOnHost.each(execPaths)('a greedy command started by %s', (_path, create) => {
  test.each([
    ['root', null],
    ['a user', '1000:1000'],
  ])('takes no per-user resource from the host or another box, as %s', async (_name, user) => {
    const [greedy, other] = await Promise.all([boxes.started(sees(1), create), boxes.started(sees(2), create)]);
    const taking = await greedy.exec(['/probe/counted', 'take'], { user, workdir: '/' });
    let said = '';
    const early = taking.exit.then((how) => {
      throw new Error(`it ended: ${JSON.stringify(how)}`);
    });
    early.catch(() => undefined);
    while (!said.includes('taken\n'))
      said += String(((await Promise.race([once(taking.stdout, 'data'), early])) as unknown[])[0]);
    // These counts show that the program has reached the limits of its user.
    const taken = new Map(
      said
        .trim()
        .split('\n')
        .map((line) => line.split(' ') as [string, string]),
    );
    expect(Number(taken.get('inotify'))).toBeGreaterThan(100);
    expect(Number(taken.get('inotify'))).toBeLessThan(2_000);
    expect(Number(taken.get('signals'))).toBeGreaterThan(30_000);
    expect(Number(taken.get('queues'))).toBeGreaterThan(5);
    expect(Number(taken.get('pipes'))).toBe(3_000);
    expect(Number(taken.get('flying'))).toBe(1_500);
    expect(execFileSync(program, ['probe'], { encoding: 'utf8' })).toBe(nothingTaken);
    expect((await other.run(['/probe/counted', 'probe'], { user, workdir: '/' })).stdout).toBe(nothingTaken);
    await taking.killTree();
  });
});

describeOnHost('a box', () => {
  test('has its own ids on the host, and another host user owns its namespace', async () => {
    const [one, two] = await Promise.all([
      boxes.started({ spec: { idBlock: 5 } }),
      boxes.started({ spec: { idBlock: 6 } }),
    ]);
    expect(mapOf(one)).toEqual([0, rangeOf(5).base, 65_536]);
    expect(mapOf(two)).toEqual([0, rangeOf(6).base, 65_536]);
    const owner = (box: DriverHarness) => {
      const ask =
        'import fcntl,sys,struct; print(struct.unpack("I", fcntl.ioctl(open(sys.argv[1]), 0xb704, b"0000"))[0])';
      return Number(
        execFileSync('python3', ['-c', ask, `/proc/${stateOf(box)?.init.pid}/ns/user`], { encoding: 'utf8' }),
      );
    };
    expect([owner(one), owner(two)]).toEqual([creatorOf(5), creatorOf(6)]);
  });

  test('of the shared range gets its own ids at its next start, and its files keep their owners', async () => {
    const look = [
      'sh',
      '-c',
      'stat -c "%n %u:%g %a" /etc /etc/hosts /etc/mine /srv /srv/user /bin/busybox; cat /etc/mine; echo more >> /etc/hosts && touch /etc/new && echo written',
    ];
    const box = await boxes.started({ spec: { idBlock: null } }, createContainer);
    await box.run([
      'sh',
      '-c',
      'echo text > /etc/mine; chown 7:65535 /etc/mine; mkdir -p /srv/user; chown 1000:1000 /srv/user; chmod 4750 /srv/user',
    ]);
    const before = await box.run(look);
    expect(before.stdout).toContain('written');
    expect(mapOf(box)[1]).toBe(sharedRange.base);
    await box.driver.stop(0);
    for (const idBlock of [9, 9, 10, null]) {
      const context = { ...box.context, spec: { ...box.context.spec, idBlock } };
      const next = bindDriver(createContainer, context, box.dir);
      await next.start();
      expect(mapOf(box)[1]).toBe(idBlock === null ? sharedRange.base : rangeOf(idBlock).base);
      const later = await next.run(look);
      expect(later.stdout).toBe(before.stdout);
      const user = await next.run(['sh', '-c', 'cd /srv/user && touch mine && stat -c %u mine && rm mine'], {
        user: '1000:1000',
        workdir: '/',
      });
      expect(user.stdout).toBe('1000\n');
      await next.driver.stop(0);
    }
  });
});
