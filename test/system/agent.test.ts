// Tests the real agent without a box: its protocol, as a worker and as a hostile client of its socket. What commands
// find in a box is in container-agent.test.ts.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createNewsReader,
  encodeAcknowledge,
  encodeForget,
  encodeHello,
  encodeInput,
  encodeInputEnd,
  encodeLeave,
  encodeResize,
  encodeRun,
  encodeSignal,
  type AgentOrder,
  type News,
} from '../../src/worker/agent/frames.ts';
import { createAgentLine } from '../../src/worker/agent/agent-line.ts';
import { findProgram } from '../../src/worker/drivers/programs.ts';
import { eventually } from '../support/runs/eventually.ts';

let directory: string;
let launcher: ChildProcess;
let generation = 0;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'boxrun-agent-'));
  const group = join(directory, 'groups', 'one');
  mkdirSync(group, { recursive: true });
  // A plain file takes the pid in place of a control group.
  writeFileSync(join(group, 'cgroup.procs'), '');
  launcher = await startAgent();
});
afterAll(async () => {
  const gone = once(launcher, 'exit');
  (await Line.open()).write(encodeLeave());
  await gone;
  rmSync(directory, { recursive: true });
});

/** Starts the program as the worker does, but not in a box. */
async function startAgent(): Promise<ChildProcess> {
  const program = await findProgram('agent');
  if (program === null) throw new Error('dist/ has no agent: npm run build');
  const joinFile = openSync('/dev/null', 'w');
  const args = ['launch', '1', directory, 'agent.sock', join(directory, 'groups'), program, 'serve', '1'];
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore', joinFile] });
  closeSync(joinFile);
  await once(child.stdout as NonNullable<typeof child.stdout>, 'data');
  return child;
}

/** One connection of a worker, which collects all news. */
class Line {
  readonly news: News[] = [];
  readonly #socket: Socket;
  isClosed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const read = createNewsReader();
    socket.on('data', (piece: Buffer) => this.news.push(...read(piece)));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.isClosed = true;
    });
  }

  static async open(lease = (generation += 1)): Promise<Line> {
    const socket = connect(join(directory, 'agent.sock'));
    await once(socket, 'connect');
    const line = new Line(socket);
    line.write(encodeHello(lease));
    return line;
  }

  write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  close(): void {
    this.#socket.destroy();
  }

  run(id: number, cmd: readonly string[], more: Partial<AgentOrder> = {}): void {
    const order: AgentOrder = {
      name: `exec_${id}`,
      group: 'one',
      cmd,
      env: ['PATH=/usr/bin:/bin'],
      workdir: '/',
      isOwnDirectory: false,
      user: { uid: 0, gid: 0, groups: [] },
      tty: null,
      stdin: false,
      ...more,
    };
    this.write(encodeRun(id, order) as Buffer);
  }

  of<Kind extends News['kind']>(id: number, kind: Kind): Extract<News, { kind: Kind }>[] {
    return this.news.filter((each) => each.kind === kind && (each as { id?: number }).id === id) as never;
  }

  /** The output so far. Fails if a byte is missing or doubled. */
  text(id: number, output: 0 | 1 = 0): string {
    const pieces = this.of(id, 'output').filter((each) => each.output === output);
    let end = pieces[0]?.offset ?? 0;
    for (const { offset, bytes } of pieces) {
      expect(offset).toBe(end);
      end += bytes.length;
    }
    return Buffer.concat(pieces.map(({ bytes }) => bytes)).toString();
  }

  /** Waits for the exit of a command and for all bytes of its leader. */
  async exit(id: number): Promise<Extract<News, { kind: 'exited' }>> {
    const [exit] = await eventually(`command ${id} has ended`, () => {
      const found = this.of(id, 'exited');
      return found.length > 0 && found;
    });
    if (exit === undefined) throw new Error('no exit');
    return exit;
  }
}

describe('a command', () => {
  it('gives its output, its errors and its exit code, and then nothing more', async () => {
    const line = await Line.open();
    line.run(1, ['sh', '-c', 'echo out; echo err >&2; exit 3']);
    const exit = await line.exit(1);
    expect(exit).toMatchObject({ exitCode: 3, atExit: [4, 4] });
    expect([line.text(1), line.text(1, 1)]).toEqual(['out\n', 'err\n']);
    line.write(encodeForget(1));
    line.run(2, ['nosuch']);
    expect((await line.exit(2)).exitCode).toBe(127);
    expect(line.of(1, 'exited')).toHaveLength(1);
    line.write(encodeForget(2));
  });

  it('fails with the reason if its control group does not exist', async () => {
    const line = await Line.open();
    line.run(1, ['true'], { group: 'none' });
    await eventually('it has failed', () => line.of(1, 'failed').length > 0);
    expect(line.of(1, 'failed')[0]).toMatchObject({ stage: 'join', errno: 2 });
    line.write(encodeForget(1));
  });

  it('finds a terminal of its size, which changes with the client, and reads what is typed', async () => {
    const line = await Line.open();
    const script = 'stty size; read word; stty size; echo "got $word"; seq 1 3000 | tail -n 1; exit 4';
    line.run(1, ['sh', '-c', script], { tty: { cols: 90, rows: 30 } });
    await eventually('it has the first size', () => line.text(1).includes('30 90\r\n'));
    line.write(encodeResize(1, 40, 100));
    line.write(encodeInput(1, Buffer.from('hello\n')));
    expect((await line.exit(1)).exitCode).toBe(4);
    await eventually('all output is here', () => line.text(1).endsWith('3000\r\n'));
    expect(line.text(1)).toContain('40 100\r\ngot hello\r\n');
    line.write(encodeForget(1));
  });

  it('gets its input to the last byte, as fast as it reads', async () => {
    const line = await Line.open();
    line.run(1, ['sh', '-c', 'sleep 0.1; wc -c'], { stdin: true });
    const total = 3_000_000;
    for (let sent = 0; sent < total;) {
      const consumed = line.of(1, 'room').at(-1)?.consumed ?? 0;
      const count = Math.min(65_536 - (sent - consumed), total - sent);
      if (count > 0) line.write(encodeInput(1, Buffer.alloc(count)));
      sent += count;
      await new Promise((resolve) => setImmediate(resolve));
    }
    line.write(encodeInputEnd(1));
    await line.exit(1);
    expect(line.text(1).trim()).toBe(String(total));
    line.write(encodeForget(1));
  });

  it('waits while nothing is acknowledged, and goes on afterwards', async () => {
    const line = await Line.open();
    const total = 5_000_000;
    line.run(1, ['sh', '-c', `head -c ${total} /dev/zero`]);
    const length = () => line.text(1).length;
    await eventually('the bound is reached', () => length() >= 2 ** 20);
    line.run(2, ['echo', 'meanwhile']);
    await line.exit(2);
    expect(length()).toBe(2 ** 20);
    expect(line.of(1, 'exited')).toEqual([]);
    await eventually('all of it is here', () => {
      line.write(encodeAcknowledge(1, 0, length()));
      return length() === total;
    });
    expect((await line.exit(1)).atExit).toEqual([total, 0]);
    for (const id of [1, 2]) line.write(encodeForget(id));
  });

  it('is killed by a signal of the worker', async () => {
    const line = await Line.open();
    line.run(1, ['sleep', '1000']);
    await eventually('it runs', () => line.of(1, 'started').length > 0);
    line.write(encodeSignal(1, 15));
    expect((await line.exit(1)).exitCode).toBe(143);
    line.write(encodeForget(1));
  });
});

describe('the next connection', () => {
  it('gets everything that the one before has not acknowledged, to the byte', async () => {
    const first = await Line.open();
    const lines = 30_000;
    first.run(1, ['sh', '-c', `seq 1 ${lines}; read word; echo $word; exit 9`], { stdin: true });
    await eventually('some of it is here', () => first.text(1).length > 30_000);
    first.write(encodeAcknowledge(1, 0, 20_000));
    first.run(2, ['sh', '-c', 'echo ended before; exit 7']);
    await first.exit(2);
    first.close();
    const second = await Line.open();
    await eventually('both are known', () => second.of(2, 'known').length > 0);
    expect(second.of(1, 'known')).toMatchObject([{ name: 'exec_1' }]);
    expect((await second.exit(2)).exitCode).toBe(7);
    expect(second.text(2)).toBe('ended before\n');
    second.write(encodeInput(1, Buffer.from('typed later\n')));
    expect((await second.exit(1)).exitCode).toBe(9);
    const whole = `${Array.from({ length: lines }, (_, index) => index + 1).join('\n')}\ntyped later\n`;
    await eventually('all of it is here', () => 20_000 + second.text(1).length === whole.length);
    expect(second.text(1)).toBe(whole.slice(20_000));
    for (const id of [1, 2]) second.write(encodeForget(id));
  });

  it('replaces the one before if its generation is not lower', async () => {
    const [first, older] = [await Line.open(100), await Line.open(99)];
    await eventually('the older one is refused', () => older.isClosed);
    expect(first.isClosed).toBe(false);
    const next = await Line.open(101);
    await eventually('the first one is closed', () => first.isClosed);
    next.run(1, ['echo', 'obeyed']);
    await next.exit(1);
    expect(next.text(1)).toBe('obeyed\n');
    next.write(encodeForget(1));
    generation = 101;
  });
});

describe('a client that breaks the rules', () => {
  it.each([
    ['sends a frame that is too short', Buffer.from(new Uint32Array([4, 2, 1]).buffer)],
    ['sends a frame that is too long', Buffer.from(new Uint32Array([2 ** 21, 2, 1]).buffer)],
    ['sends an unknown kind', Buffer.from(new Uint32Array([8, 99, 1]).buffer)],
    ['names a command that does not exist', encodeSignal(77, 9)],
    ['forgets a command that does not exist', encodeForget(77)],
  ])('%s: it loses its connection, and the commands go on', async (_what, bytes) => {
    const line = await Line.open();
    line.run(5, ['sh', '-c', 'read word; echo $word'], { stdin: true });
    await eventually('it runs', () => line.of(5, 'started').length > 0);
    line.write(bytes);
    await eventually('the connection is closed', () => line.isClosed);
    const next = await Line.open();
    next.write(encodeInput(5, Buffer.from('here\n')));
    await next.exit(5);
    expect(next.text(5)).toBe('here\n');
    next.write(encodeForget(5));
  });

  it('sends more input than there is room for: it loses its connection', async () => {
    const line = await Line.open();
    line.run(6, ['sleep', '1000'], { stdin: true });
    for (let sent = 0; sent < 4; sent += 1) line.write(encodeInput(6, Buffer.alloc(60_000)));
    await eventually('the connection is closed', () => line.isClosed);
    const next = await Line.open();
    await eventually('the command is known', () => next.of(6, 'known').length > 0);
    next.write(encodeSignal(6, 9));
    await next.exit(6);
    next.write(encodeForget(6));
  });
});

describe('a worker whose connection to the agent breaks', () => {
  it('connects again, and no command loses or doubles a byte, a start or an exit code', async () => {
    const starts = join(directory, 'starts');
    const sockets: Socket[] = [];
    const dial = async () => {
      const socket = connect(join(directory, 'agent.sock'));
      sockets.push(socket);
      await once(socket, 'connect');
      return socket;
    };
    const worker = createAgentLine(await dial(), (generation += 1), dial);
    await worker.ready;
    const base = { group: 'one', env: ['PATH=/usr/bin:/bin'], workdir: '/', isOwnDirectory: false, tty: null };
    const run = (name: string, script: string, stdin = false) => {
      const user = { uid: 0, gid: 0, groups: [] };
      const command = worker.run({
        ...base,
        name,
        user,
        stdin,
        cmd: ['sh', '-c', `echo ${name} >>${starts}; ${script}`],
      });
      if (command === null) throw new Error('the line takes no command');
      command.stderr.resume();
      return command;
    };
    const digest = async (output: Readable) => {
      const hash = createHash('md5');
      for await (const piece of output) hash.update(piece as Buffer);
      return hash.digest('hex');
    };
    const cut = () => sockets.at(-1)?.destroy();

    const loud = run('loud', 'i=0; while [ $i -lt 40 ]; do seq 20000; i=$((i+1)); done; exit 7');
    const loudDigest = digest(loud.stdout);
    const filter = run('filter', 'md5sum; exit 3', true);
    const filtered = text(filter.stdout);
    const waiting = run('waiting', 'read line; echo "got $line"; exit 5', true);
    const waited = text(waiting.stdout);
    const input = Buffer.alloc(3_000_000, 'abcdefg\n');
    filter.stdin?.end(input);
    for (let round = 0; round < 12; round += 1) {
      await worker.connected();
      // Each cut hits another moment: at once, while an order is under way, and in the middle of output.
      if (round === 0) cut();
      else if (round === 1) {
        const late = run('late', 'exit 9');
        cut();
        expect(await late.exit).toEqual({ exitCode: 9 });
      } else {
        await Promise.race([once(sockets.at(-1) as Socket, 'data'), loud.exit, filter.exit]);
        cut();
      }
    }
    await worker.connected();
    waiting.stdin?.write('it\n');
    expect(await Promise.all([loud.exit, filter.exit, waiting.exit])).toEqual([
      { exitCode: 7 },
      { exitCode: 3 },
      { exitCode: 5 },
    ]);
    const lines = Array.from({ length: 20_000 }, (_, index) => `${index + 1}\n`)
      .join('')
      .repeat(40);
    expect(await loudDigest).toBe(createHash('md5').update(lines).digest('hex'));
    expect(await filtered).toBe(`${createHash('md5').update(input).digest('hex')}  -\n`);
    expect(await waited).toBe('got it\n');
    expect(readFileSync(starts, 'utf8').trim().split('\n').sort()).toEqual(['filter', 'late', 'loud', 'waiting']);
    worker.close('the test is over');
  });
});
