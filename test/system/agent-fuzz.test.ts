// Sends random frames to the real agent, compiled with sanitizers: right ones, right ones in a wrong order, and
// garbage. The agent may close the connection, but it must live on. BOXRUN_FUZZ_FRAMES sets the number of frames,
// BOXRUN_FUZZ_INPUTS that for each parser alone, and BOXRUN_FUZZ_SEED another order.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import {
  encodeAcknowledge,
  encodeForget,
  encodeHello,
  encodeInput,
  encodeInputEnd,
  encodePing,
  encodeResize,
  encodeRun,
  encodeSignal,
} from '../../src/worker/agent/frames.ts';
import { fuzzAgent, fuzzNews } from '../support/agent/fuzz-frames.ts';
import { createRandom, type Random } from '../support/runs/random.ts';

const framesWanted = Number(process.env['BOXRUN_FUZZ_FRAMES'] ?? 10_000);
/** For each of the two parsers alone. `npm run test:agent-fuzz` takes ten million. */
const inputsWanted = Number(process.env['BOXRUN_FUZZ_INPUTS'] ?? 20_000);
const seed = Number(process.env['BOXRUN_FUZZ_SEED'] ?? 1);

const programs = [['true'], ['cat'], ['sh', '-c', 'echo a; echo b >&2'], ['yes'], ['nosuch']];

function randomFrame(random: Random): Buffer {
  const id = random.whole(1, 6);
  switch (random.below(10)) {
    case 0: {
      const order = encodeRun(id, {
        name: `exec_${id}`,
        group: random.below(10) === 0 ? 'none' : 'one',
        cmd: random.pick(programs),
        env: ['PATH=/usr/bin:/bin'],
        workdir: '/',
        isOwnDirectory: false,
        user: { uid: 0, gid: 0, groups: [] },
        tty: random.below(2) === 0 ? { cols: 80, rows: 24 } : null,
        stdin: random.below(2) === 0,
      });
      return order as Buffer;
    }
    case 1:
      return encodeSignal(id, random.below(2) === 0 ? 9 : random.below(70));
    case 2:
      return encodeInput(id, random.bytes(random.below(40_000)));
    case 3:
      return encodeInputEnd(id);
    case 4:
      return encodeResize(id, random.below(300), random.below(300));
    case 5:
      return encodeAcknowledge(id, random.below(2) as 0 | 1, random.below(random.below(2) === 0 ? 100 : 2 ** 40));
    case 6:
      return encodeForget(id);
    case 7:
      return encodePing(id);
    default: {
      const body = random.bytes(random.below(80));
      const length = random.below(5) > 0 ? 8 + body.length : random.below(2 ** 32);
      return Buffer.concat([Buffer.from(new Uint32Array([length, random.below(10), id]).buffer), body]);
    }
  }
}

async function connectTo(path: string): Promise<Socket> {
  for (;;) {
    const socket = connect(path);
    const error = await once(socket, 'connect').then(
      () => null,
      (reason: NodeJS.ErrnoException) => reason,
    );
    if (error === null) return socket.on('error', () => undefined);
    // The agent has not accepted the connections before yet.
    if (error.code !== 'EAGAIN') throw error;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

it(
  'the agent survives random frames, and no sanitizer finds a fault',
  { timeout: 120_000 + framesWanted * 10 },
  async () => {
    const directory = mkdtempSync(join(tmpdir(), 'boxrun-fuzz-'));
    const program = join(directory, 'agent');
    const sources = readdirSync('src/agent', { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.c'))
      .map((name) => join('src/agent', name));
    const sanitizers = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
    execFileSync('cc', ['-g', '-O1', ...sanitizers, '-o', program, ...sources]);
    mkdirSync(join(directory, 'groups', 'one'), { recursive: true });
    writeFileSync(join(directory, 'groups', 'one', 'cgroup.procs'), '');
    const joinFile = openSync('/dev/null', 'w');
    const logs = join(directory, 'sanitizer');
    const launcher = spawn(
      program,
      ['launch', '1', directory, 'agent.sock', join(directory, 'groups'), program, 'serve', '1'],
      {
        stdio: ['ignore', 'pipe', 'ignore', joinFile],
        env: {
          PATH: process.env['PATH'],
          ASAN_OPTIONS: `detect_leaks=0:log_path=${logs}`,
          UBSAN_OPTIONS: `log_path=${logs}`,
        },
      },
    );
    closeSync(joinFile);
    const ended = once(launcher, 'exit');
    await once(launcher.stdout as NonNullable<typeof launcher.stdout>, 'data');
    const path = join(directory, 'agent.sock');
    const random = createRandom(seed);
    let frames = 0;
    for (let lease = 1; frames < framesWanted; lease += 1) {
      const socket = await connectTo(path);
      socket.resume();
      socket.write(encodeHello(lease));
      for (let count = random.below(30); count > 0; count -= 1) {
        frames += 1;
        socket.write(randomFrame(random));
        if (random.below(4) === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      socket.destroy();
    }
    const complaints = readdirSync(directory)
      .filter((name) => name.startsWith('sanitizer'))
      .map((name) => readFileSync(join(directory, name), 'utf8'))
      // The stack of a process between fork and exec is not one that the sanitizer knows.
      .filter((text) => /runtime error|ERROR: AddressSanitizer/.test(text));
    expect(complaints).toEqual([]);
    expect(launcher.exitCode).toBeNull();
    (await connectTo(path)).destroy();
    launcher.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true });
    console.log(`${frames} frames with seed ${seed}`);
  },
);

it(
  'the parser of the agent survives changed frames, and no sanitizer finds a fault',
  { timeout: 120_000 + inputsWanted },
  () => {
    const said = fuzzAgent(inputsWanted, seed);
    console.log(said);
    expect(said).toContain(`${inputsWanted} frames`);
  },
);

it(
  'the parser of the worker refuses changed frames, however they are cut into pieces',
  { timeout: 120_000 + inputsWanted },
  async () => {
    const { streams, refused } = await fuzzNews(inputsWanted, seed);
    console.log(`${inputsWanted} frames in ${streams} streams, ${refused} of them refused`);
    expect(refused).toBeGreaterThan(0);
    expect(refused).toBeLessThan(streams);
  },
);
