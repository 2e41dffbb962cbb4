// Fuzzes both parsers of the frames between worker and agent, with inputs from a seed. The agent's parser is compiled
// with sanitizers. The worker's parser gets news that are right, changed or garbage, in pieces of any length.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { createAgentLine } from '../../../src/worker/agent/agent-line.ts';
import { createNewsReader, type AgentOrder, type News } from '../../../src/worker/agent/frames.ts';
import { createRandom, type Random } from '../runs/random.ts';

/**
 * Feeds `count` frames to the agent's code.
 * @throws what a sanitizer reports
 */
export function fuzzAgent(count: number, seed: number): string {
  const directory = mkdtempSync(join(tmpdir(), 'boxrun-fuzz-'));
  try {
    const program = join(directory, 'fuzz');
    const common = ['-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-Isrc/agent'];
    const replaced = ['fork', 'waitpid', 'pipe2', 'kill'].map(
      (name) => `-D${name}=fuzz${name.charAt(0).toUpperCase()}${name.slice(1)}`,
    );
    const objects = ['line', 'command', 'stream'].map((name) => {
      const object = join(directory, `${name}.o`);
      execFileSync('cc', [...common, ...replaced, '-c', `src/agent/${name}.c`, '-o', object]);
      return object;
    });
    execFileSync('cc', [...common, 'test/support/agent/fuzz-agent.c', ...objects, '-o', program]);
    const env = { ASAN_OPTIONS: 'detect_leaks=0' };
    return execFileSync(program, [String(count), String(seed)], { env, encoding: 'utf8' });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function frame(kind: number, id: number, words: readonly number[], rest: Uint8Array = new Uint8Array(0)): Buffer {
  const body = Buffer.concat([Buffer.from(new Uint32Array(words).buffer), rest]);
  return Buffer.concat([Buffer.from(new Uint32Array([8 + body.length, kind, id]).buffer), body]);
}

function randomNews(random: Random, offset: number): Buffer {
  const id = random.whole(1, 5);
  const kind = random.whole(1, 9);
  const words = ([[], [1, random.below(3)], [12, 0, 0, 0, 0, 0, 0, 0, 0], [], [random.whole(1, 6), 2]] as number[][])[
    kind
  ];
  if (words !== undefined)
    return frame(kind, kind === 1 ? 0 : id, words, kind === 2 ? Buffer.from(`x${id}`) : undefined);
  if (kind === 5) return frame(5, id, [random.below(2), offset, 0], random.bytes(random.whole(1, 40)));
  if (kind === 6) return frame(6, id, [random.below(2), offset, 0]);
  if (kind === 7) return frame(7, id, [random.below(300), 0, 0, 0, 0]);
  if (kind === 8) return frame(8, id, [random.below(3), 0, random.below(2)]);
  return frame(9, id, []);
}

function changed(random: Random, bytes: Buffer): Buffer {
  if (random.below(3) > 0) return bytes;
  const copy = Buffer.from(bytes);
  for (let count = random.whole(1, 3); count > 0; count -= 1) copy[random.below(copy.length)] = random.below(256);
  return random.below(4) > 0 ? copy : copy.subarray(0, random.whole(1, copy.length));
}

/** Reads `bytes` in random pieces. Returns the news before the first wrong frame. */
function readInPieces(random: Random, bytes: Buffer): { news: News[]; isRefused: boolean } {
  const read = createNewsReader();
  const news: News[] = [];
  try {
    for (let at = 0; at < bytes.length;) {
      const length = random.whole(1, 60);
      news.push(...read(bytes.subarray(at, at + length)));
      at += length;
    }
  } catch {
    return { news, isRefused: true };
  }
  return { news, isRefused: false };
}

const order: AgentOrder = {
  ...{ name: 'x', group: 'x', cmd: ['true'], env: [], workdir: '/', isOwnDirectory: false, tty: null, stdin: true },
  user: { uid: 0, gid: 0, groups: [] },
};

/**
 * Feeds `count` frames to the reader of news, and to a line with commands.
 * @returns how many streams of frames were refused
 * @throws when the pieces make a difference, or when a line takes the process down
 */
export async function fuzzNews(count: number, seed: number): Promise<{ streams: number; refused: number }> {
  const random = createRandom(seed);
  const result = { streams: 0, refused: 0 };
  for (let frames = 0; frames < count; result.streams += 1) {
    const parts = [random.below(5) === 0 ? Buffer.alloc(0) : frame(1, 0, [1, 0])];
    for (let left = random.whole(1, 20); left > 0; left -= 1, frames += 1)
      parts.push(changed(random, randomNews(random, random.below(3) * 10)));
    const bytes = Buffer.concat(parts);
    const [whole, pieces] = [readInPieces(random, bytes), readInPieces(random, bytes)];
    if (whole.isRefused !== pieces.isRefused) throw new Error(`pieces make a difference: ${bytes.toString('hex')}`);
    if (!whole.isRefused && JSON.stringify(whole.news) !== JSON.stringify(pieces.news))
      throw new Error(`pieces make other news: ${bytes.toString('hex')}`);
    result.refused += Number(whole.isRefused);
    const socket = new Duplex({
      read: () => undefined,
      write: (_chunk, _encoding, done) => {
        done();
      },
    });
    const line = createAgentLine(socket, 1);
    for (let id = 1; id <= 5; id += 1) {
      const command = line.run({ ...order, name: `x${id}` }, random.below(2) === 0);
      command?.stdout.resume();
      command?.stderr.resume();
      command?.stdin?.on('error', () => undefined);
      command?.stdin?.write('in');
    }
    socket.push(bytes);
    await new Promise(setImmediate);
    line.close('the next one follows');
  }
  return result;
}
