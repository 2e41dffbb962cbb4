// The result of a run: its exit code or error, and its output. The output stays bytes until it is sent.
// The JSON of RunResult is written piece by piece, because one whole text would be in memory several times.
import type { FastifyReply } from 'fastify';
import type { RunResult } from '../../shared/api.ts';
import { drained } from '../../shared/waiting/drained.ts';
import { limits } from '../../shared/limits.ts';
import { createOutputText, type OutputPool, type OutputText } from './output-text.ts';
import { jsonType } from '../reads/pages.ts';
import { inPieces } from '../live/sse.ts';

export interface RunOutput extends Omit<RunResult, 'stdout' | 'stderr'> {
  readonly stdout: OutputText;
  readonly stderr: OutputText;
  /** How many answers still send this output. After the last one, its bytes go back to the pool. */
  readonly answersSending: { count: number };
  /** Releases the bytes of this output in the pool. */
  readonly release: () => void;
}

type Ending = Pick<RunResult, 'exit_code' | 'error_message'>;

/** @param pool the pool in which the output has reserved its bytes; null if it has none reserved */
export function runOutput(ending: Ending, stdout: OutputText, stderr: OutputText, pool: OutputPool | null): RunOutput {
  const release = () => pool?.release(stdout.keptBytes + stderr.keptBytes);
  return { ...ending, stdout, stderr, answersSending: { count: 0 }, release };
}

/** Reads a stored answer. It has at most limits.keptOutputBytesMax of each stream. */
export function parseOutput(json: string): RunOutput {
  const { stdout, stderr, ...ending } = JSON.parse(json) as RunResult;
  return runOutput(ending, outputOf(stdout), outputOf(stderr), null);
}

function outputOf(text: string): OutputText {
  const output = createOutputText(Infinity);
  output.add(Buffer.from(text));
  return output;
}

/** The answer to store. Each stream is cut after limits.keptOutputBytesMax, and the text then says so. */
export function keptAnswer({ exit_code, error_message, stdout, stderr }: RunOutput): string {
  return JSON.stringify({ exit_code, error_message, stdout: keptText(stdout), stderr: keptText(stderr) });
}

function keptText(output: OutputText): string {
  const kept = createOutputText(limits.keptOutputBytesMax);
  for (const text of output.texts()) kept.add(Buffer.from(text));
  return [...kept.texts()].join('');
}

/** Sends the output as the answer, at the speed of the client. */
export async function sendOutput(output: RunOutput, reply: FastifyReply): Promise<FastifyReply> {
  const { raw } = reply;
  const { answersSending, release } = output;
  answersSending.count++;
  const done = () => {
    answersSending.count--;
    if (answersSending.count === 0) release();
  };
  reply.hijack();
  if (raw.destroyed) {
    done();
    return reply;
  }
  raw.once('close', done);
  raw.writeHead(200, { 'content-type': jsonType });
  for (const piece of inPieces(jsonOf(output))) {
    if (!raw.write(piece)) await drained(raw);
    if (raw.destroyed) return reply;
  }
  raw.end();
  return reply;
}

function* jsonOf({ exit_code, error_message, stdout, stderr }: RunOutput): Generator<string, void, void> {
  yield `{"exit_code":${JSON.stringify(exit_code)},"stdout":"`;
  yield* escaped(stdout);
  yield '","stderr":"';
  yield* escaped(stderr);
  yield `","error_message":${JSON.stringify(error_message)}}`;
}

function* escaped(output: OutputText): Generator<string, void, void> {
  for (const text of output.texts()) yield JSON.stringify(text).slice(1, -1);
}
