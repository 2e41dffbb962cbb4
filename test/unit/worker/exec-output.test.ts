// Tests the output of one command against doubles of the engine and the writer. The worker reads no faster than the
// writer commits. Output that was queued when the leader ended is not lost, within limits.exitDrainBusyMs.
import { spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/shared/limits.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, settle } from '../../support/runs/unit.ts';
import { createExecBench, output, summary } from './setup.ts';

describe('the output of a command', () => {
  it('is not read further at the limit of unacknowledged bytes, and read on after the acknowledgement', async () => {
    const { writer, driver, run } = createExecBench();
    const gate = controlledPromise<undefined>();
    const total = 4 * limits.unackedBytesMax;
    let given = 0;
    const stdout = new Readable({
      read(size) {
        if (given >= total) this.push(null);
        else {
          given += size;
          this.push(Buffer.alloc(size, 'x'));
        }
      },
    });
    driver.streams = () => ({ stdout, stderr: Readable.from([]) });
    writer.answer = () => gate.promise;
    const exec = run();
    await eventually('reading has stopped', async () => {
      const before = given;
      await settle(20);
      return before > 0 && given === before;
    });
    expect(given).toBeLessThan(limits.unackedBytesMax + 4 * limits.eventBytesMax + stdout.readableHighWaterMark * 2);
    gate.resolve(undefined);
    await eventually('everything is read', () => given >= total, 10_000);
    driver.commands[0]?.exit({ exitCode: 0 });
    await exec.finished;
    expect(output(writer.committed, 'stdout').length).toBe(given);
  });

  it('may break, and the command ends all the same', async () => {
    const { run, command, writer } = createExecBench();
    const exec = run();
    await exec.started;
    const running = await command();
    running.stdout.write('so far');
    await settle();
    running.stdout.destroy(new Error('EIO'));
    running.stderr.end();
    running.exit({ exitCode: 0 });
    await exec.finished;
    expect(output(writer.committed, 'stdout').toString()).toBe('so far');
  });
});

describe.concurrent('after the exit of its leader', () => {
  it('a command waits a short time for children that hold the pipes, but not for all their output', async () => {
    const { writer, run, command } = createExecBench();
    const exec = run();
    await exec.started;
    const running = await command();
    running.stdout.write('leader');
    await settle();
    const from = performance.now();
    running.exit({ exitCode: 0 });
    const drip = setInterval(() => running.stdout.write('drip'), 20);
    await exec.finished;
    const tookMs = performance.now() - from;
    expect(tookMs).toBeGreaterThanOrEqual(limits.exitDrainMs - 1);
    expect(tookMs).toBeLessThan(limits.exitDrainMs * 4);
    const committed = summary(writer.committed);
    expect(committed.at(-1)).toBe('finish');
    await new Promise((resolve) => setTimeout(resolve, 60));
    clearInterval(drip);
    expect(summary(writer.committed)).toEqual(committed);
    // The worker reads and drops their later output, because a full pipe would stop them.
    for (let time = 0; time < 50; time++) running.stdout.write(Buffer.alloc(65_536));
    await eventually('it is all read', () => running.stdout.readableLength === 0);
    expect(exec.exec().status).toBe('succeeded');
  });

  it('a command has its queued output read on for longer than exitDrainMs, while much of it comes', async () => {
    const { writer, driver, run } = createExecBench();
    let left = 60;
    const stdout = new Readable({
      read() {
        // Much output in small steps, for longer than several of the short waits.
        setTimeout(() => this.push(left-- > 0 ? Buffer.alloc(65_536, left) : null), 25);
      },
    });
    driver.streams = () => ({ stdout, stderr: Readable.from([]) });
    const exec = run();
    await exec.started;
    driver.commands[0]?.exit({ exitCode: 0 });
    await exec.finished;
    expect(output(writer.committed, 'stdout').length).toBe(60 * 65_536);
    expect(exec.exec().status).toBe('succeeded');
  });

  it('a command has all its output, even if the writer is away for longer than the wait', async () => {
    const { writer, driver, run } = createExecBench();
    let left = 300; // More than the limit of unacknowledged bytes.
    const stdout = new Readable({
      read() {
        this.push(left-- > 0 ? Buffer.alloc(65_536, left) : null);
      },
    });
    driver.streams = () => ({ stdout, stderr: Readable.from([]) });
    const exec = run();
    await exec.started;
    const back = controlledPromise<undefined>();
    writer.answer = () => back.promise;
    driver.commands[0]?.exit({ exitCode: 0 });
    await new Promise((resolve) => setTimeout(resolve, limits.exitDrainMs * 2.5));
    expect(exec.exec().status).toBe('running');
    back.resolve(undefined);
    await exec.finished;
    expect(output(writer.committed, 'stdout').length).toBe(300 * 65_536);
  });

  it('a command without children has all its output, even in slow small pieces', async () => {
    const { writer, run, command } = createExecBench();
    const exec = run();
    await exec.started;
    const running = await command();
    running.children = false;
    running.exit({ exitCode: 0 });
    for (let piece = 0; piece < 3; piece++) {
      await new Promise((resolve) => setTimeout(resolve, limits.exitDrainMs * 1.5));
      running.stdout.write(`piece ${piece} `);
    }
    expect(exec.exec().status).toBe('running');
    running.finish(0);
    await exec.finished;
    expect(output(writer.committed, 'stdout').toString()).toBe('piece 0 piece 1 piece 2 ');
  });

  it('a command has all its output, even if this process could not run during the wait', async () => {
    const { writer, driver, run } = createExecBench();
    const cat = spawn('cat', { stdio: ['pipe', 'pipe', 'ignore'] });
    driver.streams = () => ({ stdout: cat.stdout, stderr: Readable.from([]) });
    const exec = run();
    await exec.started;
    driver.commands[0]?.exit({ exitCode: 0 });
    await settle();
    cat.stdin.write('printed just before the exit');
    // Block this process: the output of cat is still in the pipe when the wait is over.
    for (const until = performance.now() + limits.exitDrainMs + 100; performance.now() < until;);
    await exec.finished;
    cat.kill('SIGKILL');
    expect(output(writer.committed, 'stdout').toString()).toBe('printed just before the exit');
  });
});
