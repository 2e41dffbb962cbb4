// Tests the buffer that makes events from output: it keeps every byte in its order, numbers the events without a gap,
// cuts no character, and limits the size of an event.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Event } from '../../../src/shared/contracts/writer.ts';
import { limits } from '../../../src/shared/limits.ts';
import {
  createOutputBuffer,
  wholeCharactersLength,
  type OutputStream,
} from '../../../src/worker/output/output-buffer.ts';
import { createRandom, type Random } from '../../support/runs/random.ts';
import { cutAtRandom } from '../../support/runs/unit.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function record(bytesMax = Infinity) {
  const events: Event[] = [];
  return {
    events,
    buffer: createOutputBuffer({
      emit: (event) => events.push({ ...event, data: Buffer.from(event.data) }),
      bytesMax,
    }),
  };
}

const bytesOf = (events: readonly Event[], stream: OutputStream) =>
  Buffer.concat(events.filter((event) => event.stream === stream).map(({ data }) => data));

function isWholeText(bytes: Uint8Array): boolean {
  return !Buffer.from(bytes).toString('utf8').includes('\ufffd');
}

const sample = 'a\u00e9\u20ac\u{1f600}z\u07ff\uffff\u{10ffff}\u0000\u2028';

describe('text in the output', () => {
  it('has whole characters in every event, for any two cuts in the input', () => {
    const bytes = Buffer.from(sample);
    for (let first = 0; first <= bytes.length; first++) {
      for (let second = first; second <= bytes.length; second++) {
        const { events, buffer } = record();
        for (const piece of [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)]) {
          buffer.write('stdout', piece);
          vi.advanceTimersByTime(limits.outputFlushMs);
        }
        for (const { data } of events) expect(isWholeText(data), `${first} ${second}`).toBe(true);
        buffer.end(() => '{}');
        expect(bytesOf(events, 'stdout').equals(bytes)).toBe(true);
      }
    }
  });

  it('has whole characters in every event if it arrives byte by byte on both streams', () => {
    const { events, buffer } = record();
    for (const byte of Buffer.from(sample)) {
      buffer.write('stdout', Buffer.from([byte]));
      buffer.write('stderr', Buffer.from([byte]));
      vi.advanceTimersByTime(limits.outputFlushMs);
    }
    for (const { data } of events) expect(isWholeText(data)).toBe(true);
    buffer.end(() => '{}');
    expect(bytesOf(events, 'stdout').toString()).toBe(sample);
    expect(bytesOf(events, 'stderr').toString()).toBe(sample);
  });

  it('is cut between characters if it is longer than an event', () => {
    for (const offset of [0, 1, 2, 3]) {
      const { events, buffer } = record();
      const text = 'x'.repeat(offset) + '\u{1f600}'.repeat(limits.eventBytesMax / 2);
      buffer.write('stdout', Buffer.from(text));
      buffer.end(() => '{}');
      const logs = events.filter(({ type }) => type === 'log');
      expect(logs.length).toBeGreaterThan(1);
      for (const { data } of logs) {
        expect(data.length).toBeLessThanOrEqual(limits.eventBytesMax);
        expect(isWholeText(data)).toBe(true);
      }
      expect(bytesOf(events, 'stdout').toString()).toBe(text);
    }
  });

  it('loses no byte if it ends inside a character', () => {
    const { events, buffer } = record();
    buffer.write('stdout', Buffer.from([0x61, 0xf0, 0x9f, 0x98]));
    buffer.write('stderr', Buffer.from([0xe2]));
    buffer.end(() => '{}');
    expect(bytesOf(events, 'stdout')).toEqual(Buffer.from([0x61, 0xf0, 0x9f, 0x98]));
    expect(bytesOf(events, 'stderr')).toEqual(Buffer.from([0xe2]));
    expect(events.at(-1)?.type).toBe('exit');
  });
});

describe('random bytes on both streams', () => {
  function randomOutput(random: Random, repeat: number): Buffer {
    const kind = random.pick(['text', 'binary', 'mixed', 'leads']);
    const parts = Array.from({ length: random.whole(0, 40) }, () => {
      if (kind === 'text' || (kind === 'mixed' && random.whole(0, 1) === 0))
        return Buffer.from(sample.slice(random.whole(0, 5)));
      if (kind === 'leads') return Buffer.from([random.pick([0xc3, 0xe2, 0xf0, 0xf5, 0xff, 0x80, 0x41])]);
      return random.bytes(random.whole(1, 40));
    });
    return Buffer.concat(parts.flatMap((part) => Array.from({ length: repeat }, () => part)));
  }

  /** The first fault in the events, or null. */
  function fault(events: readonly Event[], wanted: Record<OutputStream, Buffer>): string | null {
    if (events.some(({ seq }, index) => seq !== index)) return 'seq has a gap';
    if (!bytesOf(events, 'stdout').equals(wanted.stdout)) return 'stdout is another';
    if (!bytesOf(events, 'stderr').equals(wanted.stderr)) return 'stderr is another';
    if (events.findIndex(({ type }) => type === 'exit') !== events.length - 1) return 'the exit is not last';
    if (events.some(({ type, data }) => type === 'log' && data.length === 0)) return 'an empty event';
    return events.some(({ data }) => data.length > limits.eventBytesMax) ? 'an event is too long' : null;
  }

  it('come out unchanged, numbered from 0 without a gap, and the exit is last', () => {
    for (let seed = 1; seed <= 200; seed++) {
      const random = createRandom(seed);
      const [longest, repeat] = random.pick([
        [1, 1],
        [5, 1],
        [300, 20],
        [20_000, 400],
        [200_000, 1_000],
      ] as const);
      const wanted = { stdout: randomOutput(random, repeat), stderr: randomOutput(random, repeat) };
      const queues = (['stdout', 'stderr'] as const).map((stream) => ({
        stream,
        pieces: cutAtRandom(wanted[stream], random, longest),
      }));
      const { events, buffer } = record();
      for (let left = queues; ;) {
        left = left.filter(({ pieces }) => pieces.length > 0);
        if (left.length === 0) break;
        const { stream, pieces } = random.pick(left);
        buffer.write(stream, pieces.shift() as Buffer);
        if (random.whole(0, 20) === 0) vi.advanceTimersByTime(random.whole(0, 10));
      }
      buffer.end(() => '{"exit_code":0}');
      expect(fault(events, wanted), `seed ${seed}`).toBeNull();
    }
  });
});

describe('small writes', () => {
  it('are collected for a short time, and not longer', () => {
    const { events, buffer } = record();
    for (let time = 0; time < 100; time++) buffer.write('stdout', Buffer.from('x'));
    expect(events).toEqual([]);
    vi.advanceTimersByTime(limits.outputFlushMs - 1);
    buffer.write('stdout', Buffer.from('y'));
    vi.advanceTimersByTime(1);
    expect(events.map(({ data }) => Buffer.from(data).toString())).toEqual([`${'x'.repeat(100)}y`]);
  });

  it('keep the order of the two streams', () => {
    const { events, buffer } = record();
    for (const [stream, text] of [
      ['stdout', 'a'],
      ['stdout', 'b'],
      ['stderr', 'c'],
      ['stdout', 'd'],
    ] as const) {
      buffer.write(stream, Buffer.from(text));
    }
    buffer.end(() => '{}');
    expect(events.map(({ stream, data }) => [stream, Buffer.from(data).toString()])).toEqual([
      ['stdout', 'ab'],
      ['stderr', 'c'],
      ['stdout', 'd'],
      [null, '{}'],
    ]);
  });

  it('are sent at once when there are enough bytes', () => {
    const { events, buffer } = record();
    buffer.write('stdout', Buffer.alloc(limits.outputFlushBytes - 1, 'x'));
    expect(events).toHaveLength(0);
    buffer.write('stderr', Buffer.from('y'));
    expect(events.map(({ stream, data }) => [stream, data.length])).toEqual([
      ['stdout', limits.eventBytesMax],
      ['stdout', limits.outputFlushBytes - 1 - limits.eventBytesMax],
      ['stderr', 1],
    ]);
  });

  it('leave no timer after the end', () => {
    const { buffer } = record();
    buffer.write('stdout', Buffer.from('x'));
    buffer.end(() => '{}');
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('a command without output', () => {
  it('has only the exit event, with seq 0', () => {
    const { events, buffer } = record();
    buffer.end(() => '{"exit_code":3}');
    expect(events).toEqual([{ seq: 0, type: 'exit', stream: null, data: Buffer.from('{"exit_code":3}') }]);
  });
});

describe('the length of whole characters', () => {
  it('includes bytes that can never become a character, and excludes at most three bytes', () => {
    const whole = (bytes: number[]) => wholeCharactersLength(Buffer.from(bytes));
    expect(whole([])).toBe(0);
    expect(whole([0x80, 0x80, 0x80, 0x80])).toBe(4);
    expect(whole([0xc1])).toBe(1);
    expect(whole([0xff])).toBe(1);
    expect(whole([0xf8, 0x80])).toBe(2);
    expect(whole([0x41, 0xc3])).toBe(1);
    expect(whole([0x41, 0xe2, 0x82])).toBe(1);
    expect(whole([0x41, 0xf0, 0x9f, 0x98])).toBe(1);
    expect(whole([0xf0, 0x9f, 0x98, 0x80])).toBe(4);
    expect(whole([0xc3, 0xa9, 0x80])).toBe(3);
  });
});

describe('output at its limit', () => {
  it('is cut after the last allowed byte, an event reports this, and the exit has the number of missing bytes', () => {
    const { events, buffer } = record(5);
    buffer.write('stdout', Buffer.from('abc'));
    buffer.write('stderr', Buffer.from('de\u20ac'));
    for (let more = 0; more < 3; more++) buffer.write('stdout', Buffer.from('0123456789'));
    buffer.end((droppedBytes) => `{"dropped":${droppedBytes}}`);
    expect(bytesOf(events, 'stdout').toString()).toBe('abc');
    expect(bytesOf(events, 'stderr').toString()).toBe('de\n[boxrun: output cut after 5 bytes; the command goes on]\n');
    expect(Buffer.from(events.at(-1)?.data ?? []).toString()).toBe('{"dropped":33}');
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index));
  });

  it('is complete if it just fits, and no event is added', () => {
    const { events, buffer } = record(4);
    buffer.write('stdout', Buffer.from('a\u20ac'));
    buffer.end(String);
    expect(bytesOf(events, 'stdout').toString()).toBe('a\u20ac');
    expect(events.map(({ type }) => type)).toEqual(['log', 'exit']);
    expect(Buffer.from(events.at(-1)?.data ?? []).toString()).toBe('0');
  });

  it('ends with the half character before the event that reports the cut', () => {
    const { events, buffer } = record(2);
    buffer.write('stdout', Buffer.from('a\u20acb'));
    buffer.end(String);
    expect(bytesOf(events, 'stdout')).toEqual(Buffer.from([0x61, 0xe2]));
    expect(events.map(({ stream }) => stream)).toEqual(['stdout', 'stderr', null]);
  });
});
