// One command, from its row to its exit event: the order of what is committed, and how it ends.
import { afterEach, describe, expect, it, vi } from 'vitest';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { limits } from '../../../src/shared/limits.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, settle } from '../../support/runs/unit.ts';
import { createExecBench, exitOf, output, summary } from './setup.ts';

afterEach(() => {
  vi.useRealTimers();
});

describe('a command', () => {
  it('is committed as row, output, exit and finished row, in this order', async () => {
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

  it('has started once its row is committed and the engine has it', async () => {
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

  it('shows clients its end only when that is committed', async () => {
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

  it('that printed before its start was answered loses nothing', async () => {
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

describe('a start', () => {
  it('that the engine refuses rejects, and the row ends as failed with the reason', async () => {
    const { writer, driver, run } = createExecBench();
    driver.onStart = () => Promise.reject(new BoxRunError('RUNTIME_ERROR', 'no more pids'));
    const exec = run();
    await expect(exec.started).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
    await exec.finished;
    expect(summary(writer.committed)).toEqual(['insert', 'exit 0', 'finish']);
    expect(exitOf(writer.committed)).toEqual({ exit_code: null, error: 'no more pids' });
    expect(exec.exec()).toMatchObject({ status: 'failed', exit_code: null, error_message: 'no more pids' });
  });

  it('in which the driver throws at once ends the same way', async () => {
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

  it('that comes through after its deadline leaves no command behind', async () => {
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

describe('cancel', () => {
  it('kills the whole tree and ends the command as canceled', async () => {
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

  it('is over only when no process is left, even if the leader has gone before', async () => {
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

  it('while the command is starting kills it as soon as it has started', async () => {
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

  it('while the command is starting, when the start fails, still ends it as canceled', async () => {
    const { driver, run } = createExecBench();
    const engine = controlledPromise<undefined>();
    driver.onStart = () => engine.promise;
    const exec = run();
    const killed = exec.kill({ kind: 'canceled' });
    engine.reject(new Error('no'));
    await killed;
    expect(exec.exec().status).toBe('canceled');
  });

  it('asked for twice at once is one kill, and both wait for the end', async () => {
    const { run, command } = createExecBench();
    const exec = run();
    await exec.started;
    await Promise.all([exec.kill({ kind: 'canceled' }), exec.kill({ kind: 'canceled' })]);
    expect((await command()).kills).toBe(1);
    expect(exec.exec().status).toBe('canceled');
  });

  it('after the end changes nothing', async () => {
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

  it('whose kill fails says so, leaves the command running, and can be asked for again', async () => {
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

  it('during the start, whose kill then fails, harms nobody else', async () => {
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

describe('a timeout', () => {
  it('kills the tree and ends the command as failed, saying so', async () => {
    const { writer, run, command } = createExecBench();
    const exec = run({ timeoutMs: 20 });
    await exec.finished;
    expect((await command()).kills).toBe(1);
    expect(exec.exec()).toMatchObject({ status: 'failed', error_message: 'timed out after 20 ms' });
    expect(exitOf(writer.committed)).toMatchObject({ error: 'timed out after 20 ms' });
  });

  it('of a command that has ended before does nothing', async () => {
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

  it('does not replace the reason of a cancel that came first', async () => {
    const { run, command } = createExecBench();
    const exec = run({ timeoutMs: 30 });
    await exec.started;
    const running = await command();
    const tree = controlledPromise<undefined>();
    running.onKill = () => tree.promise;
    const killed = exec.kill({ kind: 'canceled' });
    await new Promise((resolve) => setTimeout(resolve, 40));
    running.finish(137);
    tree.resolve(undefined);
    await killed;
    expect(exec.exec().status).toBe('canceled');
  });
});

describe('a lost engine', () => {
  it('ends the command at once as failed, with what was printed before', async () => {
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

  it('that cannot say how a command ended makes it failed with its reason', async () => {
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

  it('during the start ends it too', async () => {
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
