// Tests the lock of a state directory, with real processes. It has one holder at a time, and it ends with its process,
// however that ends.
import { spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { tryLock } from '../../../src/shared/process/lock.ts';
import { runTypescript } from '../../support/runs/typescript-child.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';

describe('the lock of a state directory', () => {
  it('has one holder until it is released, and its file is private', async () => {
    const path = join(temporaryDirectory(), 'lock');
    const openFiles = () => readdirSync('/proc/self/fd').length;
    const before = openFiles();
    const lock = await tryLock(path);
    expect(lock).not.toBeNull();
    expect(await tryLock(path)).toBeNull();
    await eventually('only the lock is left open', () => openFiles() <= before + 1);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    lock?.release();
    const next = await tryLock(path);
    expect(next).not.toBeNull();
    next?.release();
  });

  it('is taken by exactly one of many that try at once', async () => {
    const path = join(temporaryDirectory(), 'lock');
    const locks = await Promise.all(Array.from({ length: 10 }, () => tryLock(path)));
    expect(locks.filter((lock) => lock !== null)).toHaveLength(1);
    for (const lock of locks) lock?.release();
  });

  it('ends when its process is killed, even if a child of that process lives on', async () => {
    const path = join(temporaryDirectory(), 'lock');
    const holder = await runTypescript(`
      import { spawn } from 'node:child_process';
      import { tryLock } from './src/shared/process/lock.ts';
      const lock = await tryLock(${JSON.stringify(path)});
      const child = spawn('sleep', ['60'], { stdio: 'ignore', detached: true });
      console.log(lock === null ? 'none' : child.pid);
      setInterval(() => {}, 1000);
    `);
    const survivor = Number(await holder.line());
    onTestFinished(() => {
      process.kill(survivor, 'SIGKILL');
    });
    expect(await tryLock(path)).toBeNull();
    holder.child.kill('SIGKILL');
    await holder.exited;
    const lock = await tryLock(path);
    expect(lock).not.toBeNull();
    lock?.release();
  });

  it('is not inherited by processes that its holder starts', async () => {
    const path = join(temporaryDirectory(), 'lock');
    const lock = await tryLock(path);
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    lock?.release();
    await eventually('it is free', async () => {
      const next = await tryLock(path);
      next?.release();
      return next !== null;
    });
  });
});
