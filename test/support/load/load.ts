// Measures how a load slows down other clients: the time of one short request, in turns without and with the load. Both
// are measured in the same run, so other work of this machine affects both. Also has clients that do not read their
// answer.
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { expect } from 'vitest';
import { limits } from '../../../src/shared/limits.ts';
import { peakMemoryMb } from '../host/processes.ts';

export interface Load {
  on(): Promise<void>;
  off(): Promise<void>;
}

export interface Turns {
  readonly rounds?: number;
  /** Requests in each half of a round. */
  readonly samples?: number;
}

export interface Comparison {
  readonly quietMs: number;
  readonly loadedMs: number;
  /** The ratio of the medians. 1.2 means that a request takes a fifth longer with the load. */
  readonly ratio: number;
}

/** Measures and prints the medians of `sample` without and with the load. Every second round begins with the load. */
export async function compareLatency(
  what: string,
  sample: () => Promise<unknown>,
  load: Load,
  { rounds = 6, samples = 40 }: Turns = {},
): Promise<Comparison> {
  const times = { quiet: [] as number[], loaded: [] as number[] };
  const measure = async (into: number[]) => {
    for (let index = 0; index < samples; index++) {
      const startedAt = performance.now();
      await sample();
      into.push(performance.now() - startedAt);
    }
  };
  const loaded = async () => {
    await load.on();
    await measure(times.loaded);
    await load.off();
  };
  await measure([]); // Warms up first, because the first requests are slower.
  for (let round = 0; round < rounds; round++) {
    if (round % 2 === 1) await loaded();
    await measure(times.quiet);
    if (round % 2 === 0) await loaded();
  }
  const [quietMs, loadedMs] = [median(times.quiet), median(times.loaded)];
  const ratio = loadedMs / quietMs;
  console.log(
    `${what}: a short command takes ${quietMs.toFixed(1)} ms without, ${loadedMs.toFixed(1)} ms with (medians of ${times.quiet.length}): ratio ${ratio.toFixed(2)}`,
  );
  return { quietMs, loadedMs, ratio };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

/**
 * Expects that no process of the server had more memory than its bound since its start, or since `resetPeaks`. Prints
 * the peaks.
 */
export async function expectBoundedMemory(stateDir: string, what: string): Promise<void> {
  const peaks = await peakMemoryMb(stateDir);
  console.log(`${what}: peaks of memory in MB: ${JSON.stringify(peaks)}`);
  for (const [role, peak] of Object.entries(peaks))
    expect(peak, `${role}, ${what}`).toBeLessThan(
      role === 'gateway' ? limits.gatewayMemoryMbMax : limits.processMemoryMbMax,
    );
}

export interface StuckClient {
  readonly answer: IncomingMessage;
  /** Reads the rest of the answer without pauses. */
  readAll(): Promise<string>;
  leave(): void;
}

/** Opens a client that reads the headers of an answer, and then nothing. */
export async function openStuck(port: number, path: string): Promise<StuckClient> {
  const outgoing = request({ host: '127.0.0.1', port, path, agent: false }).end();
  outgoing.on('error', () => undefined); // `leave` breaks the connection.
  const [answer] = (await once(outgoing, 'response')) as [IncomingMessage];
  return {
    answer,
    async readAll() {
      const pieces: Buffer[] = [];
      for await (const piece of answer) pieces.push(piece as Buffer);
      return Buffer.concat(pieces).toString();
    },
    leave() {
      answer.on('error', () => undefined).destroy();
      outgoing.destroy();
    },
  };
}
