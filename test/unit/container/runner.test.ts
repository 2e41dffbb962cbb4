// The messages between worker and runner. The worker accepts only reports that can be true, because the runner lives in
// the box.
import { duplexPair } from 'node:stream';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { limits } from '../../../src/shared/limits.ts';
import { createChannel, RunnerGone, StartRefused } from '../../../src/worker/drivers/container/runner/channel.ts';
import {
  createReportReader,
  encodeRun,
  logicalPath,
  type RunOrder,
} from '../../../src/worker/drivers/container/runner/frames.ts';

const order: RunOrder = {
  group: 'exec_1',
  input: null,
  output: '1',
  errors: '2',
  cmd: ['true'],
  env: ['A=b'],
  workdir: '/',
  isOwnDirectory: false,
  user: { uid: 0, gid: 0, groups: [0] },
};

function report(kind: number, id: number, value = 0, detail = 0): Buffer {
  return Buffer.from(new Uint32Array([kind, id, value, detail]).buffer);
}
const [ready, started, failed, exited] = [1, 2, 3, 4] as const;

describe('an order', () => {
  it('has the length that it declares, a multiple of four bytes', () => {
    for (const cmd of [['true'], ['a', ''], ['ä', 'bb', 'ccc']]) {
      const frame = encodeRun(7, { ...order, cmd }) as Buffer;
      expect(frame.length % 4).toBe(0);
      expect(new Uint32Array(new Uint8Array(frame.subarray(0, 12)).buffer)).toEqual(
        new Uint32Array([frame.length - 4, 1, 7]),
      );
      expect(frame.at(-1)).toBeGreaterThan(0);
      expect(frame.at(-1)).toBeLessThanOrEqual(4);
    }
  });

  it('is not made if the runner or the kernel could not take it', () => {
    expect(encodeRun(1, { ...order, cmd: ['x'.repeat(131_072)] })).toBeNull();
    expect(encodeRun(1, { ...order, cmd: Array.from({ length: 20_000 }, () => 'x') })).toBeNull();
    expect(encodeRun(1, { ...order, cmd: Array.from({ length: 20 }, () => 'x'.repeat(100_000)) })).toBeNull();
    expect(encodeRun(1, { ...order, cmd: ['a\0b'] })).toBeNull();
  });

  it.each([
    ['/', '/'],
    ['/a/b/', '/a/b'],
    ['/a/../b/./c//d', '/b/c/d'],
    ['/..', '/'],
    ['//a', '//a'],
    ['///a', '/a'],
  ])('enters %s as %s', (path, expected) => {
    expect(logicalPath(path)).toBe(expected);
  });
});

describe('reports', () => {
  it('are read completely from pieces of any length', () => {
    const read = createReportReader();
    const bytes = Buffer.concat([
      report(ready, 0),
      report(started, 1),
      report(failed, 2, 11, 1),
      report(exited, 1, 137),
    ]);
    const got = [...bytes].flatMap((byte) => read(Buffer.from([byte])));
    expect(got).toEqual([
      { kind: 'ready', id: 0 },
      { kind: 'started', id: 1 },
      { kind: 'failed', id: 2, stage: 'fork', errno: 11 },
      { kind: 'exited', id: 1, exitCode: 137 },
    ]);
  });

  it.each([
    ['of an unknown kind', report(9, 1)],
    ['of an impossible exit code', report(exited, 1, 256)],
    ['of an unknown stage', report(failed, 1, 1, 77)],
  ])('%s are refused', (_what, bytes) => {
    expect(() => createReportReader()(bytes)).toThrow('impossible');
  });
});

describe('the connection to a runner', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  function connection() {
    const [workerEnd, runnerEnd] = duplexPair();
    runnerEnd.resume();
    return { channel: createChannel(workerEnd), runnerEnd };
  }

  it('gives each command its own reports', async () => {
    const { channel, runnerEnd } = connection();
    const [one, two, three] = [channel.run(order), channel.run(order), channel.run(order)];
    runnerEnd.write(
      Buffer.concat([
        report(started, 2),
        report(started, 1),
        report(exited, 2, 3),
        report(failed, 3, 2, 2),
        report(exited, 1, 0),
      ]),
    );
    await Promise.all([one?.begun, two?.begun]);
    expect(await one?.exit).toEqual({ exitCode: 0 });
    expect(await two?.exit).toEqual({ exitCode: 3 });
    await expect(three?.begun).rejects.toMatchObject({ stage: 'join', errno: 2 });
  });

  it('takes an end without a begin as the end of a command that was killed before it began', async () => {
    const { channel, runnerEnd } = connection();
    const command = channel.run(order);
    runnerEnd.write(report(exited, 1, 137));
    await expect(command?.begun).rejects.toBeInstanceOf(StartRefused);
  });

  it.each([
    ['of an unknown command', report(exited, 5)],
    ['of a second begin', Buffer.concat([report(started, 1), report(started, 1)])],
    ['of nonsense', Buffer.alloc(16, 255)],
  ])('ends with a report %s', async (_what, bytes) => {
    const { channel, runnerEnd } = connection();
    const command = channel.run(order);
    runnerEnd.write(bytes);
    expect(await channel.closed).toContain('said');
    expect(await command?.exit).toHaveProperty('lost');
    expect(channel.run(order)).toBeNull();
  });

  it('ends with the runner: a command that has begun is lost, another one is refused', async () => {
    const { channel, runnerEnd } = connection();
    const [begun, waiting] = [channel.run(order), channel.run(order)];
    runnerEnd.write(report(started, 1));
    await begun?.begun;
    runnerEnd.end();
    expect(await begun?.exit).toEqual({ lost: 'the runner in the box ended' });
    await expect(waiting?.begun).rejects.toBeInstanceOf(RunnerGone);
  });

  it('closes when the runner does not answer, but only while there are commands', async () => {
    vi.useFakeTimers();
    const { channel, runnerEnd } = connection();
    await vi.advanceTimersByTimeAsync(limits.runnerPingMs * 20);
    const command = channel.run(order);
    await vi.advanceTimersByTimeAsync(limits.runnerPingMs * limits.runnerPingsUnansweredMax);
    runnerEnd.write(report(5, 1));
    await vi.advanceTimersByTimeAsync(limits.runnerPingMs * limits.runnerPingsUnansweredMax);
    runnerEnd.write(report(started, 1));
    await vi.advanceTimersByTimeAsync(0);
    await command?.begun;
    await vi.advanceTimersByTimeAsync(limits.runnerPingMs * (limits.runnerPingsUnansweredMax + 2));
    expect(await command?.exit).toEqual({ lost: 'the runner in the box did not answer' });
  });

  it('closes after the last command if that was requested', async () => {
    const { channel, runnerEnd } = connection();
    const command = channel.run(order);
    channel.closeWhenIdle();
    expect(channel.run(order)).toBeNull();
    runnerEnd.write(Buffer.concat([report(started, 1), report(exited, 1, 4)]));
    expect(await command?.exit).toEqual({ exitCode: 4 });
    expect(await channel.closed).toContain('not needed');
  });
});
