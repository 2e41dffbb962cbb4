// The agent of a real micro-VM, from the worker's driver: exact output, terminals, and what it leaves. The whole
// service with it is in test/vm/service.test.ts.
import { createHash } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createAndStart,
  finish,
  makeBox,
  makeImage,
  request,
  run,
  stateDir,
  type TestBox,
} from '../vm/support/boxlite-box.ts';
import { eventually } from '../support/runs/eventually.ts';

const dir = stateDir();
let box: TestBox;

beforeAll(async () => {
  mkdirSync(join(dir, 'images'), { recursive: true });
  box = makeBox(dir, 'box_aaaaaaaaaaaa', await makeImage(dir, 'shell'));
  await createAndStart(box);
});
afterAll(async () => {
  await box.driver.remove();
  rmSync(dir, { recursive: true, force: true });
});

describe('a micro-VM with an agent', () => {
  it('returns 4 MB of random bytes exactly, to a reader that pauses', async () => {
    const script = 'head -c 4000000 /dev/urandom >/tmp/random; md5sum </tmp/random >&2; cat /tmp/random';
    const handle = await box.driver.exec(request(['sh', '-c', script]));
    const sum = text(handle.stderr);
    const hash = createHash('md5');
    let isFirst = true;
    for await (const piece of handle.stdout) {
      if (isFirst) await delay(2_000);
      isFirst = false;
      hash.update(piece as Buffer);
    }
    expect(hash.digest('hex')).toBe((await sum).slice(0, 32));
    expect(await handle.exit).toEqual({ exitCode: 0 });
  });

  it('changes the size of a terminal, and keeps every byte up to its end', async () => {
    const tty = { cols: 80, rows: 24, term: 'xterm' };
    const handle = await box.driver.exec(request(['sh', '-c', 'read a; stty size; seq 5000'], { tty, stdin: true }));
    await handle.resize(132, 50);
    handle.stdin?.write('go\n');
    const { stdout } = await finish(handle);
    const numbers = Array.from({ length: 5_000 }, (_, index) => `${index + 1}\n`).join('');
    expect(stdout.replaceAll('\r', '')).toBe(`go\n50 132\n${numbers}`);
  });

  it('leaves no cgroup of an ended command behind', async () => {
    const groups = async () => (await run(box, ['ls', '/.boxrun/cg'])).stdout.match(/^(exec|users)_.*$/gm) ?? [];
    for (let count = 0; count < 3; count += 1) await run(box, ['true'], { user: 'user', workdir: '/tmp' });
    await run(box, ['sh', '-c', 'sleep 1 >/dev/null 2>&1 &']);
    // The last one is that of `ls` itself. Each end of a command removes the group of an earlier one, too.
    await eventually('no other group is left', async () => (await groups()).length === 1, 20_000);
  });

  it('loses its running commands when root in the box kills the agent, and the next command has a new one', async () => {
    const handle = await box.driver.exec(request(['sleep', '1116']));
    const killer = await box.driver.exec(request(['sh', '-c', 'kill -9 $PPID']));
    expect(await handle.exit).toHaveProperty('lost');
    expect(await killer.exit).toHaveProperty('lost');
    expect((await run(box, ['ps', '-o', 'args'])).stdout).not.toContain('sleep 1116');
    expect(box.driver.outputIsExact).toBe(true);
  });
});
