// Tests one command against doubles of the engine and the writer, from its row to its exit event: what is committed in
// which order, and how the command ends.
import { afterEach, describe, expect, it, vi } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { limits } from '../../../src/shared/limits.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, settle } from '../../support/runs/unit.ts';
import { createExecBench, exitOf, output, summary } from './setup.ts';

afterEach(() => {
  vi.useRealTimers();
});

describe('a running command', () => {
  it('is committed as its row, its output, its exit and its finished row, in this order', async () => {
    const { writer, run, command } = createExecBench();
    const exec = run({ cmd: ['sh'], env: { A: 'b' }, workdir: '/tmp' });
    await exec.started;
    const { stdout, stderr, finish, request } = await command();
    expect(request).toMatchObject({
      execId: exec.id,
      cmd: ['sh'],
      env: { A: 'b' },
      workdir: '/tmp',
      tty: null,
      stdin: false,
    });
    stdout.write('out');
    stderr.write('err');
    await settle();
    finish(0);
    await exec.finished;
    expect(summary(writer.committed)).toEqual(['insert', 'log 0', 'log 1', 'exit 2', 'finish']);
    expect(writer.committed[0]).toMatchObject({
      exec: { id: exec.id, box_id: 'box_a', status: 'running', cmd: ['sh'], generation: 3 },
    });
    expect(exitOf(writer.committed)).toEqual({ exit_code: 0 });
    expect(exec.exec()).toMatchObject({ status: 'succeeded', exit_code: 0, error_message: null });
    expect(exec.exec().finished_at).not.toBeNull();
  });

  it('has started when its row is committed and the engine has started it', async () => {
    const { writer, driver, run } = createExecBench();
    const commit = controlledPromise<undefined>();
    const engine = controlledPromise<undefined>();
    writer.answer = () => commit.promise;
    driver.onStart = () => engine.promise;
    const exec = run();
    let started = false;
    void exec.started.then(() => {
      started = true;
    });
    await settle();
    engine.resolve(undefined);
    await settle();
    expect(started).toBe(false);
    commit.resolve(undefined);
    await exec.started;
    driver.commands[0]?.finish(0);
    await exec.finished;
  });

  it('shows its end to clients only when the end is committed', async () => {
    const { writer, run, command } = createExecBench();
    const exec = run();
    await exec.started;
    const commit = controlledPromise<undefined>();
    writer.answer = () => commit.promise;
    (await command()).finish(7);
    await settle(10);
    expect(exec.exec().status).toBe('running');
    commit.resolve(undefined);
    await exec.finished;
    expect(exec.exec()).toMatchObject({ status: 'failed', exit_code: 7 });
  });

  it('loses no output that it printed before its start was answered', async () => {
    const { writer, driver, run } = createExecBench();
    driver.onStart = async (command) => {
      command.stdout.end('early');
      command.stderr.end();
      command.exit({ exitCode: 0 });
    };
    const exec = run();
    await exec.finished;
    expect(output(writer.committed, 'stdout').toString()).toBe('early');
    expect(exec.exec().status).toBe('succeeded');
  });
});

describe('a start of a command', () => {
  it('is rejected if the engine refuses it, and the row ends as failed with the reason', async () => {
    const { writer, driver, run } = createExecBench();
    driver.onStart = () => Promise.reject(new BoxRunError('RUNTIME_ERROR', 'no more pids'));
    const exec = run();
    await expect(exec.started).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
    await exec.finished;
    expect(summary(writer.committed)).toEqual(['insert', 'exit 0', 'finish']);
    expect(exitOf(writer.committed)).toEqual({ exit_code: null, error: 'no more pids' });
    expect(exec.exec()).toMatchObject({ status: 'failed', exit_code: null, error_message: 'no more pids' });
  });

  it('is rejected in the same way if the driver throws at once', async () => {
    const { writer, driver, run } = createExecBench();
    driver.exec = () => {
      throw new Error('broken driver');
    };
    const exec = run();
    await expect(exec.started).rejects.toThrow('broken driver');
    await exec.finished;
    expect(exec.exec()).toMatchObject({ status: 'failed', error_message: 'broken driver' });
    expect(summary(writer.committed)).toEqual(['insert', 'exit 0', 'finish']);
  });

  it('leaves no command behind if it succeeds after its deadline', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { writer, driver, run } = createExecBench();
    const engine = controlledPromise<undefined>();
    driver.onStart = () => engine.promise;
    const exec = run();
    const outcome = expect(exec.started).rejects.toMatchObject({ code: 'TIMEOUT' });
    await vi.advanceTimersByTimeAsync(limits.execStartTimeoutMs);
    await outcome;
    await exec.finished;
    expect(exec.exec()).toMatchObject({ status: 'failed' });
    engine.resolve(undefined);
    await settle();
    expect(driver.commands[0]?.kills).toBe(1);
    expect(summary(writer.committed)).toEqual(['insert', 'exit 0', 'finish']);
  });
});

describe('a cancel of a command', () => {
  it('kills the whole process tree and ends the command as canceled', async () => {
    const { writer, run, command } = createExecBench();
    const exec = run();
    await exec.started;
    const running = await command();
    running.stdout.write('before');
    await exec.kill({ kind: 'canceled' });
    expect(running.kills).toBe(1);
    expect(exec.exec()).toMatchObject({ status: 'canceled', exit_code: 137, error_message: 'canceled' });
    expect(exitOf(writer.committed)).toEqual({ exit_code: 137, error: 'canceled' });
    expect(output(writer.committed, 'stdout').toString()).toBe('before');
  });

  it('has finished only when no process is left, even if the leader has exited before', async () => {
    const { run, command } = createExecBench();
    const exec = run();
    await exec.started;
    const running = await command();
    const tree = controlledPromise<undefined>();
    running.onKill = () => {
      running.finish(137);
      return tree.promise;
    };
    const killed = exec.kill({ kind: 'canceled' });
    await settle(20);
    expect(exec.exec().status).toBe('running');
    tree.resolve(undefined);
    await killed;
    expect(exec.exec().status).toBe('canceled');
  });

  it('kills a starting command as soon as it has started', async () => {
    const { driver, run } = createExecBench();
    const engine = controlledPromise<undefined>();
    driver.onStart = () => engine.promise;
    const exec = run();
    const killed = exec.kill({ kind: 'canceled' });
    await settle();
    engine.resolve(undefined);
    await killed;
    expect(driver.commands[0]?.kills).toBe(1);
    expect(exec.exec().status).toBe('canceled');
  });

  it('ends a command as canceled even if its start fails', async () => {
    const { driver, run } = createExecBench();
    const engine = controlledPromise<undefined>();
    driver.onStart = () => engine.promise;
    const exec = run();
    const killed = exec.kill({ kind: 'canceled' });
    engine.reject(new Error('no'));
    await killed;
    expect(exec.exec().status).toBe('canceled');
  });

  it('kills once if it is requested twice, and both requests wait for the end', async () => {
    const { run, command } = createExecBench();
    const exec = run();
    await exec.started;
    await Promise.all([exec.kill({ kind: 'canceled' }), exec.kill({ kind: 'canceled' })]);
    expect((await command()).kills).toBe(1);
    expect(exec.exec().status).toBe('canceled');
  });

  it('changes nothing after the command has ended', async () => {
    const { writer, run, command } = createExecBench();
    const exec = run();
    await exec.started;
    (await command()).finish(0);
    await exec.finished;
    await exec.kill({ kind: 'canceled' });
    expect((await command()).kills).toBe(0);
    expect(exec.exec().status).toBe('succeeded');
    expect(summary(writer.committed).filter((each) => each.startsWith('exit'))).toHaveLength(1);
  });

  it('fails if the kill fails, leaves the command running, and can be tried again', async () => {
    const { run, command } = createExecBench();
    const exec = run();
    await exec.started;
    const running = await command();
    const { onKill } = running;
    running.onKill = () => Promise.reject(new BoxRunError('TIMEOUT', 'still there'));
    await expect(exec.kill({ kind: 'canceled' })).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(exec.exec().status).toBe('running');
    running.onKill = onKill;
    await exec.kill({ kind: 'canceled' });
    expect(exec.exec().status).toBe('canceled');
  });

  it('during the start is kept if its kill fails, and causes no unhandled error', async () => {
    const { driver, run, command } = createExecBench();
    const engine = controlledPromise<undefined>();
    driver.onStart = () => engine.promise;
    const exec = run();
    void exec.kill({ kind: 'canceled' });
    const running = await command();
    running.onKill = () => Promise.reject(new Error('still there'));
    engine.resolve(undefined);
    await eventually('the kill was tried', () => running.kills === 1);
    await settle();
    running.finish(0);
    await exec.finished;
    expect(exec.exec().status).toBe('canceled');
  });
});

describe('a timeout of a command', () => {
  it('kills the process tree and ends the command as failed, with the reason', async () => {
    const { writer, run, command } = createExecBench();
    const exec = run({ timeoutMs: 20 });
    await exec.finished;
    expect((await command()).kills).toBe(1);
    expect(exec.exec()).toMatchObject({ status: 'failed', error_message: 'timed out after 20 ms' });
    expect(exitOf(writer.committed)).toMatchObject({ error: 'timed out after 20 ms' });
  });

  it('does nothing after the command has ended', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { run, command } = createExecBench();
    const exec = run({ timeoutMs: 1_000 });
    await vi.advanceTimersByTimeAsync(limits.execRowDelayMs);
    await exec.started;
    const running = await command();
    running.finish(0);
    await exec.finished;
    await vi.advanceTimersByTimeAsync(2_000);
    expect(running.kills).toBe(0);
    expect(exec.exec().status).toBe('succeeded');
    expect(vi.getTimerCount()).toBe(0);
  });

  it('does not replace the reason of an earlier cancel', async () => {
    const { run, command } = createExecBench();
    const timeoutMs = 500; // Long enough for a busy machine to come to the cancel before it.
    const exec = run({ timeoutMs });
    await exec.started;
    const running = await command();
    const tree = controlledPromise<undefined>();
    running.onKill = () => tree.promise;
    const killed = exec.kill({ kind: 'canceled' });
    await new Promise((resolve) => setTimeout(resolve, timeoutMs + 50));
    running.finish(137);
    tree.resolve(undefined);
    await killed;
    expect(exec.exec().status).toBe('canceled');
  });
});

describe('an engine that is lost', () => {
  it('ends its command at once as failed, and the earlier output stays', async () => {
    const { writer, run, command } = createExecBench();
    const exec = run();
    await exec.started;
    (await command()).stdout.write('before');
    await settle();
    exec.lose('the box ended: out of memory');
    await exec.finished;
    expect(exec.exec()).toMatchObject({
      status: 'failed',
      exit_code: null,
      error_message: 'the box ended: out of memory',
    });
    expect(output(writer.committed, 'stdout').toString()).toBe('before');
    (await command()).stdout.write('after');
    (await command()).finish(0);
    await settle(10);
    expect(summary(writer.committed)).toEqual(['insert', 'log 0', 'exit 1', 'finish']);
  });

  it('makes a command failed with its reason if it cannot say how the command ended', async () => {
    const { run, command } = createExecBench();
    const exec = run();
    await exec.started;
    const running = await command();
    running.stdout.end();
    running.stderr.end();
    running.exit({ lost: 'the monitor died' });
    await exec.finished;
    expect(exec.exec()).toMatchObject({ status: 'failed', exit_code: null, error_message: 'the monitor died' });
  });

  it('ends a command that is starting', async () => {
    const { writer, driver, run } = createExecBench();
    driver.onStart = () => new Promise(() => undefined);
    const exec = run();
    exec.lose('gone');
    exec.lose('gone again');
    await exec.finished;
    expect(summary(writer.committed)).toEqual(['insert', 'exit 0', 'finish']);
    expect(exec.exec()).toMatchObject({ status: 'failed', error_message: 'gone' });
  });
});
