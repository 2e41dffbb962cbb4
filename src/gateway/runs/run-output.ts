// What a run gave: how it ended, and its output, as bytes for as long as a client takes them. It is written as the JSON
// of RunResult piece by piece, since as one text it would stand in memory several times over.
import type { FastifyReply } from 'fastify';
import type { RunResult } from '../../shared/api.ts';
import { drained } from '../../shared/waiting/drained.ts';
import { limits } from '../../shared/limits.ts';
import { createOutputText, type OutputPool, type OutputText } from '../reads/output-text.ts';
import { jsonType } from '../reads/pages.ts';
import { inPieces } from '../live/sse.ts';

export interface RunOutput extends Omit<RunResult, 'stdout' | 'stderr'> {
  readonly stdout: OutputText;
  readonly stderr: OutputText;
  /** Who still has a use for it; its bytes count until nobody has. */
  readonly users: { count: number };
  readonly forget: () => void;
}

type Ending = Pick<RunResult, 'exit_code' | 'error_message'>;

export function runOutput(ending: Ending, stdout: OutputText, stderr: OutputText, pool: OutputPool | null): RunOutput {
  const forget = () => pool?.giveBack(stdout.keptBytes + stderr.keptBytes);
  return { ...ending, stdout, stderr, users: { count: 0 }, forget };
}

/** An answer as it was kept, up to limits.keptOutputBytesMax of each stream. */
export function parseOutput(json: string): RunOutput {
  const { stdout, stderr, ...ending } = JSON.parse(json) as RunResult;
  return runOutput(ending, outputOf(stdout), outputOf(stderr), null);
}

function outputOf(text: string): OutputText {
  const output = createOutputText(Infinity);
  output.add(Buffer.from(text));
  return output;
}

/** A run's answer as it is kept: long output is cut, and says so. */
export function keptAnswer({ exit_code, error_message, stdout, stderr }: RunOutput): string {
  return JSON.stringify({ exit_code, error_message, stdout: keptText(stdout), stderr: keptText(stderr) });
}

function keptText(output: OutputText): string {
  const kept = createOutputText(limits.keptOutputBytesMax);
  for (const text of output.texts()) kept.add(Buffer.from(text));
  return [...kept.texts()].join('');
}

/** Answers with it, at the pace of the client. */
export async function sendOutput(output: RunOutput, reply: FastifyReply): Promise<FastifyReply> {
  const { raw } = reply;
  const { users, forget } = output;
  users.count++;
  const done = () => {
    users.count--;
    if (users.count === 0) forget();
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
