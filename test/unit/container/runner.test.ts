// What worker and runner say to each other, and that the worker believes only what can be true: the runner lives in the
// box.
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
  it('is as long as it says, in whole words of the machine', () => {
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

  it('is none where the runner, or the kernel, could not take it', () => {
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
  it('are read whole, however they are cut', () => {
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
    ['of no kind', report(9, 1)],
    ['of an exit code that is none', report(exited, 1, 256)],
    ['of a stage that is none', report(failed, 1, 1, 77)],
  ])('%s are refused', (_what, bytes) => {
    expect(() => createReportReader()(bytes)).toThrow('impossible');
  });
});

describe('the line to a runner', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  function line() {
    const [ours, theirs] = duplexPair();
    theirs.resume();
    return { channel: createChannel(ours), theirs };
  }

  it('gives each command its own reports', async () => {
    const { channel, theirs } = line();
    const [one, two, three] = [channel.run(order), channel.run(order), channel.run(order)];
    theirs.write(
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

  it('takes an end without a begin for a command that was killed before it', async () => {
    const { channel, theirs } = line();
    const command = channel.run(order);
    theirs.write(report(exited, 1, 137));
    await expect(command?.begun).rejects.toBeInstanceOf(StartRefused);
  });

  it.each([
    ['of a command that is none', report(exited, 5)],
    ['of a second begin', Buffer.concat([report(started, 1), report(started, 1)])],
    ['of nonsense', Buffer.alloc(16, 255)],
  ])('ends with a report %s', async (_what, bytes) => {
    const { channel, theirs } = line();
    const command = channel.run(order);
    theirs.write(bytes);
    expect(await channel.closed).toContain('said');
    expect(await command?.exit).toHaveProperty('lost');
    expect(channel.run(order)).toBeNull();
  });

  it('ends with the runner: what has begun is lost, what has not is refused', async () => {
    const { channel, theirs } = line();
    const [begun, waiting] = [channel.run(order), channel.run(order)];
    theirs.write(report(started, 1));
    await begun?.begun;
    theirs.end();
    expect(await begun?.exit).toEqual({ lost: 'the runner in the box ended' });
    await expect(waiting?.begun).rejects.toBeInstanceOf(RunnerGone);
  });

  it('gives up a runner that does not answer, but only while it has commands', async () => {
    vi.useFakeTimers();
    const { channel, theirs } = line();
    await vi.advanceTimersByTimeAsync(limits.runnerPingMs * 20);
    const command = channel.run(order);
    await vi.advanceTimersByTimeAsync(limits.runnerPingMs * limits.runnerPingsUnansweredMax);
    theirs.write(report(5, 1));
    await vi.advanceTimersByTimeAsync(limits.runnerPingMs * limits.runnerPingsUnansweredMax);
    theirs.write(report(started, 1));
    await vi.advanceTimersByTimeAsync(0);
    await command?.begun;
    await vi.advanceTimersByTimeAsync(limits.runnerPingMs * (limits.runnerPingsUnansweredMax + 2));
    expect(await command?.exit).toEqual({ lost: 'the runner in the box did not answer' });
  });

  it('closes when it is idle, where that is asked', async () => {
    const { channel, theirs } = line();
    const command = channel.run(order);
    channel.closeWhenIdle();
    expect(channel.run(order)).toBeNull();
    theirs.write(Buffer.concat([report(started, 1), report(exited, 1, 4)]));
    expect(await command?.exit).toEqual({ exitCode: 4 });
    expect(await channel.closed).toContain('not needed');
  });
});
