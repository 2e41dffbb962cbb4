// The connection between worker and agent, and its frames. The worker accepts only news that can be true, because the
// agent lives in the box. test/system/container-agent.test.ts has the real agent.
import { once } from 'node:events';
import { duplexPair, type Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { AgentGone, StartRefused } from '../../../src/worker/agent/agent-command.ts';
import { createAgentLine } from '../../../src/worker/agent/agent-line.ts';
import { createNewsReader, encodeRun, logicalPath, type AgentOrder } from '../../../src/worker/agent/frames.ts';
import { limits } from '../../../src/shared/limits.ts';

const order: AgentOrder = {
  name: 'exec_1',
  group: 'exec_1',
  cmd: ['true'],
  env: ['A=b'],
  workdir: '/',
  isOwnDirectory: false,
  user: { uid: 0, gid: 0, groups: [0] },
  tty: null,
  stdin: false,
};

function frame(kind: number, id: number, words: readonly number[] = [], rest = ''): Buffer {
  const body = Buffer.concat([Buffer.from(new Uint32Array(words).buffer), Buffer.from(rest)]);
  return Buffer.concat([Buffer.from(new Uint32Array([8 + body.length, kind, id]).buffer), body]);
}
const hello = frame(1, 0, [1, 0]);
const started = (id: number) => frame(3, id);
const failed = (id: number, stage: number, errno: number) => frame(4, id, [stage, errno]);
const output = (id: number, which: number, offset: number, bytes: string) => frame(5, id, [which, offset, 0], bytes);
const ended = (id: number, which: number, offset: number) => frame(6, id, [which, offset, 0]);
const exited = (id: number, code: number) => frame(7, id, [code, 0, 0, 0, 0]);
const room = (id: number, consumed: number, isClosed = 0) => frame(8, id, [consumed, 0, isClosed]);
const wholeEnd = (id: number, code: number, length = 0) =>
  Buffer.concat([ended(id, 0, length), ended(id, 1, 0), exited(id, code)]);

describe('an order', () => {
  it('is not made if the agent or the kernel could not take it', () => {
    expect(encodeRun(1, { ...order, cmd: ['x'.repeat(131_072)] })).toBeNull();
    expect(encodeRun(1, { ...order, cmd: Array.from({ length: 20_000 }, () => 'x') })).toBeNull();
    expect(encodeRun(1, { ...order, cmd: Array.from({ length: 20 }, () => 'x'.repeat(100_000)) })).toBeNull();
    expect(encodeRun(1, { ...order, cmd: ['a\0b'] })).toBeNull();
    expect(encodeRun(1, { ...order, name: 'x'.repeat(64) })).toBeNull();
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

describe('news', () => {
  it('are read completely from pieces of any length', () => {
    const bytes = Buffer.concat([
      hello,
      started(1),
      output(1, 0, 0, 'abc'),
      failed(2, 1, 11),
      ended(1, 1, 0),
      exited(1, 137),
      room(1, 5),
    ]);
    const read = createNewsReader();
    const one = [...bytes].flatMap((byte) => read(Buffer.from([byte])));
    expect(one).toEqual([
      { kind: 'hello', version: 1, commands: 0 },
      { kind: 'started', id: 1 },
      { kind: 'output', id: 1, output: 0, offset: 0, bytes: Buffer.from('abc') },
      { kind: 'failed', id: 2, stage: 'fork', errno: 11 },
      { kind: 'end', id: 1, output: 1, offset: 0 },
      { kind: 'exited', id: 1, exitCode: 137, atExit: [0, 0] },
      { kind: 'room', id: 1, consumed: 5, isClosed: false },
    ]);
    expect(createNewsReader()(bytes)).toEqual(one);
  });

  it.each([1_000, 5_000, 30_000, 70_000])('with long output come in parts, from pieces of %i bytes', (pieceBytes) => {
    const long = 'abcdefghij'.repeat(6_000);
    const bytes = Buffer.concat([hello, output(1, 0, 0, long), started(2), output(1, 0, 60_000, long), exited(1, 0)]);
    const read = createNewsReader();
    let text = '';
    const kinds: string[] = [];
    for (let at = 0; at < bytes.length; at += pieceBytes)
      for (const news of read(bytes.subarray(at, at + pieceBytes))) {
        if (news.kind !== 'output') kinds.push(news.kind);
        else expect(news).toMatchObject({ id: 1, output: 0, offset: text.length });
        if (news.kind === 'output') text += String(news.bytes);
      }
    expect(text === long + long).toBe(true);
    expect(kinds).toEqual(['hello', 'started', 'exited']);
  });

  it.each([
    ['of an unknown kind', frame(77, 1)],
    ['with an impossible exit code', frame(7, 1, [256, 0, 0, 0, 0])],
    ['with an unknown stage', frame(4, 1, [77, 0])],
    ['of a third output', output(1, 2, 0, 'x')],
    ['with output without bytes', frame(5, 1, [0, 0, 0])],
    ['with an offset that no number can hold', frame(6, 1, [0, 0, 0xffffffff])],
    ['that are too short', frame(7, 1, [0])],
    ['that are too long', Buffer.from(new Uint32Array([70_000, 5, 1]).buffer)],
  ])('%s are refused', (_what, bytes) => {
    expect(() => createNewsReader()(bytes)).toThrow('the agent sent');
  });
});

describe('the connection to an agent', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  /** `sent` collects the frames of the worker: kind, id and body. */
  async function connection() {
    const [workerEnd, agentEnd] = duplexPair();
    const sent: { kind: number; id: number; body: Buffer }[] = [];
    collectFrames(agentEnd, sent);
    const line = createAgentLine(workerEnd, 7);
    agentEnd.write(hello);
    await line.ready;
    return {
      line,
      agentEnd,
      sent,
      kinds: (id: number) => sent.filter((each) => each.id === id).map(({ kind }) => kind),
    };
  }

  function collectFrames(from: Duplex, into: { kind: number; id: number; body: Buffer }[]): void {
    let rest = Buffer.alloc(0);
    from.on('data', (piece: Buffer) => {
      rest = Buffer.concat([rest, piece]);
      while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32LE(0)) {
        const end = 4 + rest.readUInt32LE(0);
        into.push({ kind: rest.readUInt32LE(4), id: rest.readUInt32LE(8), body: rest.subarray(12, end) });
        rest = rest.subarray(end);
      }
    });
  }

  it('gives each command its own news, and tells the agent to forget it when all of it has arrived', async () => {
    const { line, agentEnd, kinds } = await connection();
    const [one, two, three] = [line.run(order), line.run(order), line.run(order)];
    agentEnd.write(Buffer.concat([started(2), started(1), output(1, 0, 0, 'one'), output(2, 1, 0, 'err')]));
    agentEnd.write(Buffer.concat([exited(2, 3), failed(3, 2, 2), ended(1, 1, 0), exited(1, 0), output(1, 0, 3, '!')]));
    await Promise.all([one?.begun, two?.begun]);
    expect(await one?.exit).toEqual({ exitCode: 0 });
    expect(await two?.exit).toEqual({ exitCode: 3 });
    await expect(three?.begun).rejects.toMatchObject({ stage: 'join', errno: 2 });
    await vi.waitFor(() => expect(kinds(3)).toEqual([2, 8]));
    expect(kinds(1)).not.toContain(8);
    agentEnd.write(Buffer.concat([ended(1, 0, 4), ended(2, 0, 0), ended(2, 1, 3)]));
    if (one === undefined || two === undefined || one === null || two === null) throw new Error('they did not start');
    expect([await text(one.stdout), await text(one.stderr)]).toEqual(['one!', '']);
    expect([await text(two.stdout), await text(two.stderr)]).toEqual(['', 'err']);
    await vi.waitFor(() => expect([kinds(1).at(-1), kinds(2).at(-1)]).toEqual([8, 8]));
  });

  it('acknowledges output only as far as its reader takes it', async () => {
    const { line, agentEnd, sent } = await connection();
    const command = line.run(order);
    if (command === null) throw new Error('it did not start');
    agentEnd.write(started(1));
    await command.begun;
    const piece = 'x'.repeat(60_000);
    agentEnd.write(Buffer.concat([output(1, 0, 0, piece), output(1, 0, 60_000, piece)]));
    await once(command.stdout, 'readable');
    await new Promise((resolve) => setImmediate(resolve));
    const acknowledged = () => sent.filter(({ kind }) => kind === 7).map(({ body }) => body.readUInt32LE(4));
    expect(acknowledged()).not.toContain(120_000);
    command.stdout.resume();
    await vi.waitFor(() => expect(acknowledged().at(-1)).toBe(120_000));
  });

  describe('with a command of an earlier worker', () => {
    const name = 'exec_kept';
    /** Output from offsets 10 and 0 on; 7 bytes of input, of which the command has taken 3. */
    const known = frame(2, 4, [4, 10, 0, 0, 0, 3, 0, 7, 0], name);

    async function knownConnection() {
      const [workerEnd, agentEnd] = duplexPair();
      const sent: { kind: number; id: number; body: Buffer }[] = [];
      collectFrames(agentEnd, sent);
      const line = createAgentLine(workerEnd, 8);
      agentEnd.write(Buffer.concat([frame(1, 0, [1, 1]), known, started(4), output(4, 0, 10, 'abcdef')]));
      await line.ready;
      const command = line.found.get(name);
      if (command === undefined) throw new Error('the command is not found');
      return { line, agentEnd, sent, command };
    }
    const acknowledgedIn = (sent: readonly { kind: number; body: Buffer }[]) =>
      sent.filter(({ kind }) => kind === 7).map(({ body }) => body.readUInt32LE(4));

    it('gives the output behind what is committed, and acknowledges what the worker commits', async () => {
      const { agentEnd, command, sent } = await knownConnection();
      command.resume([13, 0]);
      agentEnd.write(output(4, 0, 16, 'gh'));
      agentEnd.write(Buffer.concat([ended(4, 0, 18), ended(4, 1, 0), exited(4, 5)]));
      expect(await text(command.stdout)).toBe('defgh');
      expect(await command.exit).toEqual({ exitCode: 5 });
      await vi.waitFor(() => expect(acknowledgedIn(sent)).toEqual([13]));
      expect(sent.map(({ kind }) => kind)).not.toContain(8);
      command.forget();
      await vi.waitFor(() => expect(sent.at(-1)).toMatchObject({ kind: 8, id: 4 }));
    });

    it('skips what comes later if even that is committed', async () => {
      const { agentEnd, command } = await knownConnection();
      command.resume([17, 0]);
      agentEnd.write(Buffer.concat([output(4, 0, 16, 'gh'), ended(4, 0, 18), ended(4, 1, 0), exited(4, 0)]));
      expect(await text(command.stdout)).toBe('h');
    });

    it('goes on with its input behind what the agent has received, and gives new commands new ids', async () => {
      const { line, agentEnd, command, sent } = await knownConnection();
      command.resume([16, 0]);
      command.stdin?.write(Buffer.alloc(70_000));
      const inputBytes = () => sent.filter(({ kind }) => kind === 4).reduce((sum, { body }) => sum + body.length, 0);
      await vi.waitFor(() => expect(inputBytes()).toBe(65_536 - 4));
      agentEnd.write(room(4, 7));
      await vi.waitFor(() => expect(inputBytes()).toBe(65_536));
      line.run(order);
      await vi.waitFor(() => expect(sent.find(({ kind }) => kind === 2)?.id).toBe(5));
    });

    it('drops it if the worker does not want it', async () => {
      const { agentEnd, command, sent } = await knownConnection();
      command.forget();
      agentEnd.write(Buffer.concat([output(4, 0, 16, 'gh'), ended(4, 0, 18), ended(4, 1, 0), exited(4, 0)]));
      await vi.waitFor(() => expect(sent.at(-1)).toMatchObject({ kind: 8, id: 4 }));
    });
  });

  it('sends input only as fast as the command takes it, and reports a command that reads no more', async () => {
    const { line, agentEnd, sent } = await connection();
    const command = line.run({ ...order, stdin: true });
    const stdin = command?.stdin;
    if (stdin === undefined || stdin === null) throw new Error('it has no input');
    agentEnd.write(started(1));
    const written = new Promise((resolve) => stdin.write(Buffer.alloc(100_000), resolve));
    const inputBytes = () => sent.filter(({ kind }) => kind === 4).reduce((total, { body }) => total + body.length, 0);
    await vi.waitFor(() => expect(inputBytes()).toBe(65_536));
    agentEnd.write(room(1, 65_536));
    await written;
    await vi.waitFor(() => expect(inputBytes()).toBe(100_000));
    const broken = once(stdin, 'error');
    agentEnd.write(room(1, 100_000, 1));
    expect((await broken)[0]).toMatchObject({ code: 'EPIPE' });
  });

  it.each([
    ['of an unknown command', started(5)],
    ['of a second begin', Buffer.concat([started(1), started(1)])],
    ['of an end without a begin', exited(1, 0)],
    ['with a gap in the output', Buffer.concat([started(1), output(1, 0, 5, 'x')])],
    ['of input that was not sent', Buffer.concat([started(1), room(1, 5)])],
    ['of a second hello', hello],
    ['of nonsense', Buffer.alloc(16, 255)],
  ])('ends with news %s', async (_what, bytes) => {
    const { line, agentEnd } = await connection();
    const command = line.run({ ...order, stdin: true });
    command?.stdin?.on('error', () => undefined);
    agentEnd.write(bytes);
    expect(await line.closed).toMatch(/agent/);
    expect(await command?.exit).toHaveProperty('lost');
    expect(line.run(order)).toBeNull();
  });

  it('ends with the agent: a command that has begun is lost, another one is refused', async () => {
    const { line, agentEnd } = await connection();
    const [begun, waiting] = [line.run(order), line.run(order)];
    agentEnd.write(started(1));
    await begun?.begun;
    agentEnd.end();
    expect(await begun?.exit).toEqual({ lost: 'the agent in the box ended' });
    await expect(waiting?.begun).rejects.toBeInstanceOf(AgentGone);
    expect(AgentGone).not.toBe(StartRefused);
  });

  it('closes when the agent does not answer, but only while there are commands', async () => {
    const { line, agentEnd } = await connection();
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const settle = () => new Promise((resolve) => setImmediate(resolve));
    vi.advanceTimersByTime(limits.agentPingMs * 20);
    const command = line.run(order);
    vi.advanceTimersByTime(limits.agentPingMs * limits.agentPingsUnansweredMax);
    agentEnd.write(started(1));
    await command?.begun;
    vi.advanceTimersByTime(limits.agentPingMs * limits.agentPingsUnansweredMax);
    agentEnd.write(frame(9, 3));
    await settle();
    vi.advanceTimersByTime(limits.agentPingMs * (limits.agentPingsUnansweredMax + 2));
    expect(await command?.exit).toEqual({ lost: 'the agent in the box did not answer' });
  });

  it('starts no command after the agent was told to leave', async () => {
    const { line, agentEnd, sent } = await connection();
    const command = line.run(order);
    line.leave();
    expect(line.run(order)).toBeNull();
    agentEnd.write(Buffer.concat([started(1), wholeEnd(1, 4)]));
    expect(await command?.exit).toEqual({ exitCode: 4 });
    await vi.waitFor(() => expect(sent.some(({ kind }) => kind === 10)).toBe(true));
  });
});
