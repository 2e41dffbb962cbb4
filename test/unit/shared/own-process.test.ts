// Tests the processes that BoxRun starts for itself, with a real parent and child: orders go down, readiness comes up,
// and each side notices the end of the other.
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

/** A parent that starts `child` as its writer and prints each message and its end. */
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

describe('a process of BoxRun', () => {
  it('gets its orders, hides them from its children, and reports when it is ready', async () => {
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

  it('gives UNAVAILABLE with the path of its log if it ends before it is ready', async () => {
    const { line, directory } = await startPair(`console.error('no room'); process.exit(3);`);
    const heard = [await line(), await line()].sort();
    expect(heard[0]).toContain('UNAVAILABLE the writer ended before it was ready (exit 3)');
    expect(heard[0]).toContain(join(directory, 'log'));
    expect(heard[1]).toBe('exited exit 3');
    expect(readFileSync(join(directory, 'log'), 'utf8')).toContain('no room');
  });

  it('gives UNAVAILABLE if it is not ready in time', async () => {
    const { line, childPid } = await startPair('setInterval(() => {}, 1000);', { readyMs: 50 });
    expect(await line()).toContain('UNAVAILABLE the writer was not ready within 50 ms');
    killQuietly(childPid, 'SIGKILL');
    expect(await line()).toBe('exited SIGKILL');
  });

  it('gets the same time again each time it reports that it is still working', { timeout: 40_000 }, async () => {
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

  it('has no listener any more when it is ready, and its later messages are not kept', async () => {
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

  it('gives UNAVAILABLE if it sends a message that is too long and has no end', async () => {
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

  it('notices the death of its parent, even a killed one', async () => {
    const { line, child, childPid, directory } = await startPair(faithful);
    expect(await line()).toBe('ready {}');
    child.kill('SIGKILL');
    await eventually('it is gone', async () => (await processIdentity(childPid)) === null);
    expect(readFileSync(join(directory, 'log'), 'utf8')).toBe('the parent is gone\n');
  });

  it('lives on after its parent was killed if it is detached', async () => {
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

  it('has a private log', async () => {
    const { line, directory } = await startPair(`process.exit(0);`);
    await line();
    await line();
    expect(statSync(join(directory, 'log')).mode & 0o777).toBe(0o600);
  });

  it('gives UNAVAILABLE if it sends an unreadable message, and its parent lives on', async () => {
    const { line } = await startPair(`
      import { writeSync } from 'node:fs';
      writeSync(3, 'this is no JSON\\n');
      setInterval(() => {}, 1000);
    `);
    expect(await line()).toContain('UNAVAILABLE');
  });
});

describe('a part of BoxRun that is started by hand', () => {
  it('ends with an error that names `boxrun serve`', () => {
    expect(() => takeOrders({})).toThrow(/boxrun serve/);
  });
});
