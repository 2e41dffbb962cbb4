// The reading end of a command's pipe: every byte arrives, whether the pipe is read once at the command's end or while
// the command runs.
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createOutputPipe } from '../../../src/worker/drivers/container/runner/output-pipe.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, temporaryDirectory } from '../../support/runs/unit.ts';

function openPipe() {
  const path = join(temporaryDirectory(), 'pipe');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, constants.O_WRONLY);
  const firstLook = controlledPromise<undefined>();
  return { path, fd, writer, firstLook, pipe: createOutputPipe(fd, firstLook.promise) };
}

async function readAll(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

const isOpen = (fd: number): boolean => {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
};

describe('the pipe of a command', () => {
  it('gives all bytes and is closed when the command has ended', async () => {
    const { fd, writer, firstLook, pipe } = openPipe();
    const text = Buffer.alloc(60_000, 'line\n');
    writeSync(writer, text);
    closeSync(writer);
    firstLook.resolve(undefined);
    expect(await readAll(pipe)).toEqual(text);
    await eventually('it is closed', () => !isOpen(fd));
  });

  it('is not read before its first look', async () => {
    const { writer, firstLook, pipe } = openPipe();
    writeSync(writer, 'hello');
    const pieces: string[] = [];
    pipe.on('data', (piece: Buffer) => pieces.push(piece.toString()));
    for (let count = 0; count < 5; count++) await turn();
    expect(pieces).toEqual([]);
    firstLook.resolve(undefined);
    await eventually('it is read', () => pieces.join('') === 'hello');
    closeSync(writer);
    pipe.destroy();
  });

  it('gives all bytes of a long command, and makes the writer wait when the reader pauses', async () => {
    const { path, writer, firstLook, pipe } = openPipe();
    const bytes = 8 * 1024 * 1024;
    const child = spawn('sh', ['-c', `head -c ${bytes} /dev/zero > ${path}`], { stdio: 'ignore' });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    firstLook.resolve(undefined);
    let read = 0;
    pipe.on('data', (piece: Buffer) => (read += piece.length));
    await eventually('it flows', () => read > 0);
    pipe.pause();
    await eventually('it stands still', async () => {
      const before = read;
      for (let count = 0; count < 20; count++) await turn();
      return read === before;
    });
    expect(child.exitCode).toBeNull(); // The writer waits until the test reads again.
    expect(read + pipe.readableLength).toBeLessThan(bytes / 2);
    const ended = new Promise((resolve) => pipe.once('end', resolve));
    pipe.resume();
    await eventually('its writer has ended', () => child.exitCode === 0);
    closeSync(writer);
    await ended;
    expect(read).toBe(bytes);
  });

  it('is closed when the reader destroys it, before and after its first look', async () => {
    for (const looks of [false, true]) {
      const { fd, writer, firstLook, pipe } = openPipe();
      pipe.resume();
      if (looks) firstLook.resolve(undefined);
      for (let count = 0; count < 5; count++) await turn();
      pipe.destroy();
      await eventually('it is closed', () => !isOpen(fd));
      firstLook.resolve(undefined);
      await turn();
      closeSync(writer);
    }
  });
});
