// Our own processes from both sides: orders down, readiness up, and each side's end seen by the other, however it
// comes.
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { killAndWait, killQuietly, processIdentity } from '../../../src/shared/process/child-process.ts';
import { loadConfig } from '../../../src/shared/settings/config.ts';
import { takeOrders } from '../../../src/shared/process/own-process.ts';
import { runTypescript, type TypescriptChild } from '../../support/runs/typescript-child.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';

interface Pair extends TypescriptChild {
  readonly directory: string;
  readonly childPid: number;
}

/** A parent that starts `child` as its writer, and prints what it hears. */
async function startPair(
  child: string,
  options: { readyMs?: number; detached?: boolean; countsListeners?: boolean } = {},
): Promise<Pair> {
  const directory = temporaryDirectory();
  const config = JSON.stringify(loadConfig({ stateDir: directory }, {}));
  const parent = await runTypescript(
    `
    import { startOwnProcess } from './src/shared/process/own-process.ts';
    const started = startOwnProcess({
      orders: { role: 'writer', config: ${config}, workerId: 'wrk_7' }, logFile: ${JSON.stringify(join(directory, 'log'))},
      readyMs: ${options.readyMs ?? 20_000}, detached: ${options.detached ?? false}, env: { ...process.env, EXTRA: 'yes', NODE_EXTRA_CA_CERTS: '/dev/null' },
    });
    console.log('pid ' + started.pid);
    const listeners = () => started.child.stdio[3].listenerCount('data');
    started.ready.then((facts) => console.log('ready ' + JSON.stringify(facts) + (${options.countsListeners ?? false} ? ' listeners ' + listeners() : '')), (error) => console.log(error.code + ' ' + error.message + ' | ' + error.hint));
    started.exited.then((how) => console.log('exited ' + how));
    `,
    { 'writer.js': child },
  );
  const pid = Number((await parent.line()).replace('pid ', ''));
  const identity = await processIdentity(pid);
  onTestFinished(async () => {
    // Not every child here ends with its parent.
    if (identity !== null) await killAndWait(identity, 5_000, 'a process of the test');
  });
  return { ...parent, directory, childPid: pid };
}

describe('a process of ours', () => {
  it('gets its orders, out of the sight of what it starts, and says when it is ready', async () => {
    const { line } = await startPair(`
      import { takeOrders } from './src/shared/process/own-process.ts';
      const { orders, ready } = takeOrders();
      ready({ role: orders.role, workerId: orders.workerId, left: process.env.BOXRUN_ORDERS ?? null, extra: process.env.EXTRA, certificates: process.env.NODE_EXTRA_CA_CERTS ?? null, cwd: process.cwd() });
      setInterval(() => {}, 1000);
    `);
    expect(JSON.parse((await line()).replace('ready ', ''))).toEqual({
      role: 'writer',
      workerId: 'wrk_7',
      left: null,
      extra: 'yes',
      certificates: null,
      cwd: '/',
    });
  });

  it('that ends before it is ready is UNAVAILABLE, with the way to its log', async () => {
    const { line, directory } = await startPair(`console.error('no room'); process.exit(3);`);
    const heard = [await line(), await line()].sort();
    expect(heard[0]).toContain('UNAVAILABLE the writer ended before it was ready (exit 3)');
    expect(heard[0]).toContain(join(directory, 'log'));
    expect(heard[1]).toBe('exited exit 3');
    expect(readFileSync(join(directory, 'log'), 'utf8')).toContain('no room');
  });

  it('that does not get ready in time is UNAVAILABLE', async () => {
    const { line, childPid } = await startPair('setInterval(() => {}, 1000);', { readyMs: 50 });
    expect(await line()).toContain('UNAVAILABLE the writer was not ready within 50 ms');
    killQuietly(childPid, 'SIGKILL');
    expect(await line()).toBe('exited SIGKILL');
  });

  it('that says that it works on has as long again', { timeout: 40_000 }, async () => {
    const { line } = await startPair(
      `
      import { takeOrders } from './src/shared/process/own-process.ts';
      const { ready, working } = takeOrders();
      let times = 0;
      const timer = setInterval(() => {
        if (++times < 14) return working();
        clearInterval(timer);
        ready({ times });
      }, 500);
      setInterval(() => {}, 1000);
    `,
      { readyMs: 5_000 },
    );
    expect(await line()).toBe('ready {"times":14}');
  });

  it('that is ready is not listened to any more, and what it says then is not kept', async () => {
    const { line, childPid } = await startPair(
      `
      import { takeOrders } from './src/shared/process/own-process.ts';
      const { ready, working } = takeOrders();
      ready();
      for (let index = 0; index < 100_000; index++) working();
      setInterval(() => {}, 1000);
    `,
      { countsListeners: true },
    );
    expect(await line()).toBe('ready {} listeners 0');
    expect(await processIdentity(childPid)).not.toBeNull();
  });

  it('that says more than it could have to say, without an end, is given up', async () => {
    const { line, childPid } = await startPair(`
      import { Socket } from 'node:net';
      new Socket({ fd: 3 }).write('x'.repeat(1_000_000));
      setInterval(() => {}, 1000);
    `);
    expect(await line()).toContain('UNAVAILABLE the writer sent a message that is not valid');
    killQuietly(childPid, 'SIGKILL');
  });

  const faithful = `
    import { takeOrders } from './src/shared/process/own-process.ts';
    const { ready, parentGone } = takeOrders();
    parentGone.then(() => { console.log('the parent is gone'); process.exit(0); });
    setInterval(() => {}, 1000);
    ready();
  `;

  it("hears of its parent's death, even a killed one's", async () => {
    const { line, child, childPid, directory } = await startPair(faithful);
    expect(await line()).toBe('ready {}');
    child.kill('SIGKILL');
    await eventually('it is gone', async () => (await processIdentity(childPid)) === null);
    expect(readFileSync(join(directory, 'log'), 'utf8')).toBe('the parent is gone\n');
  });

  it('that is detached lives on after its parent was killed', async () => {
    const { line, child, childPid } = await startPair(
      `
      import { takeOrders } from './src/shared/process/own-process.ts';
      const { ready } = takeOrders();
      ready();
      setInterval(() => {}, 1000);
    `,
      { detached: true },
    );
    expect(await line()).toBe('ready {}');
    child.kill('SIGKILL');
    await eventually('the parent is gone', async () => (await processIdentity(child.pid as number)) === null);
    expect(await processIdentity(childPid)).not.toBeNull();
  });

  it('keeps its log to itself', async () => {
    const { line, directory } = await startPair(`process.exit(0);`);
    await line();
    await line();
    expect(statSync(join(directory, 'log')).mode & 0o777).toBe(0o600);
  });

  it('that says something unreadable is UNAVAILABLE, and its parent lives', async () => {
    const { line } = await startPair(`
      import { writeSync } from 'node:fs';
      writeSync(3, 'this is no JSON\\n');
      setInterval(() => {}, 1000);
    `);
    expect(await line()).toContain('UNAVAILABLE');
  });
});

describe('a part that somebody starts by hand', () => {
  it('says what to do instead', () => {
    expect(() => takeOrders({})).toThrow(/boxrun serve/);
  });
});
