// One command in a box of its own, in one request: create, run, collect the output, remove whatever happens.
// When the client leaves, the box goes; when this process dies, the supervisor removes it, as the box is marked
// ephemeral.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { RunBody, type Box, type RunResult } from '../../shared/api.ts';
import type { Event, KeyClaim } from '../../shared/contracts/writer.ts';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/fault.ts';
import { limits } from '../../shared/limits.ts';
import { withCleanEnvironment } from '../environment.ts';
import { asBoxRunError, errorBody } from '../error-handler.ts';
import { whileProcessing } from '../long-answer.ts';
import { createOutputText } from '../output-text.ts';
import type { GatewayParts } from '../parts.ts';
import { createRepeatedRuns, keptAnswer } from '../repeated-runs.ts';
import { claimOf } from '../request-key.ts';
import { acceptsStream, encodeEvents, encodeNotice, openSseStream, type SseEncoding } from '../sse.ts';
import { createParse, createParseQuery, RunQuery } from '../validation.ts';
import { createTimeoutMs, removeTimeoutMs } from './boxes.ts';
import { execTimeoutMs } from './execs.ts';

const parseRun = createParse(RunBody);
const parseRunQuery = createParseQuery(RunQuery);

interface RunOrder {
  readonly body: RunBody;
  readonly claim?: KeyClaim;
}

/** What is done with the command of a run: its events, up to the exit. */
type UseEvents<Result> = (batches: AsyncIterable<readonly Event[]>) => Promise<Result>;

export function addRunRoutes(app: FastifyInstance, parts: GatewayParts): void {
  const repeated = createRepeatedRuns(parts);
  app.post('/v1/run', async (request, reply) => {
    const { encoding = 'text' } = parseRunQuery(request.query);
    const parsed = parseRun(request.body);
    const claim = claimOf(request, 'run', parsed);
    const body = withCleanEnvironment(parsed);
    const gone = whenGone(reply, parts.closing);
    if (!acceptsStream(request)) {
      const order = { body, ...(claim === undefined ? {} : { claim }) };
      return whileProcessing(
        reply,
        repeated.once(claim, () => runOnce(parts, order, gone, request)),
      );
    }
    if (claim !== undefined) {
      throw new BoxRunError('VALIDATION_ERROR', 'a run whose output is streamed cannot be repeated', {
        hint: 'leave Idempotency-Key away',
      });
    }
    return streamRun(parts, { body }, { request, reply, gone, encoding });
  });
}

/** Aborts when the client has gone before its answer, or the gateway goes. */
function whenGone(reply: FastifyReply, closing: AbortSignal): AbortSignal {
  const gone = new AbortController();
  const abort = () => {
    gone.abort();
  };
  closing.addEventListener('abort', abort, { once: true });
  reply.raw.once('close', () => {
    closing.removeEventListener('abort', abort);
    gone.abort();
  });
  if (closing.aborted || reply.raw.destroyed) gone.abort();
  return gone.signal;
}

async function runOnce(
  parts: GatewayParts,
  order: RunOrder,
  gone: AbortSignal,
  request: FastifyRequest,
): Promise<RunResult> {
  const { claim } = order;
  return withOwnBox(parts, order, { gone, request }, async (box, run) => {
    const result = await run((batches) => collect(batches, parts.meters));
    faultPoint('gateway.run.collected');
    if (claim !== undefined)
      await keep(parts, { scope: claim.scope, key: claim.key, rowId: box.id, answer: keptAnswer(result) });
    return result;
  });
}

interface StreamedRun {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly gone: AbortSignal;
  readonly encoding: SseEncoding;
}

/**
 * A run whose steps and output are told as they come, for a client with a person before it. The exit comes when its box
 * is removed.
 */
async function streamRun(
  parts: GatewayParts,
  order: RunOrder,
  { request, reply, gone, encoding }: StreamedRun,
): Promise<void> {
  const stream = openSseStream(reply, parts);
  const onProgress = (stage: string, message: string) => {
    void stream.write(encodeNotice('progress', { stage, message }));
  };
  const write = async (events: readonly Event[]) => {
    for (const piece of encodeEvents(events, encoding)) await stream.write(piece);
  };
  try {
    const exit = await withOwnBox(parts, order, { gone, request, onProgress }, (_, run) =>
      run(async (batches) => {
        for await (const events of batches) {
          await write(events.filter(({ type }) => type === 'log'));
          const last = events.find(({ type }) => type === 'exit');
          if (last !== undefined) return last;
        }
        throw endless();
      }),
    );
    await write([exit]);
  } catch (error) {
    const known = asBoxRunError(error, request.id);
    if (known.status >= 500 && !gone.aborted)
      request.log.error({ err: known.cause ?? known, requestId: request.id }, 'a run failed');
    await stream.write(encodeNotice('error', errorBody(known)));
  } finally {
    stream.end();
  }
}

interface RunOptions {
  readonly gone: AbortSignal;
  readonly request: FastifyRequest;
  readonly onProgress?: (stage: string, message: string) => void;
}

/** Makes the box, lets `use` run the command in it, and removes it. */
async function withOwnBox<Result>(
  { supervisor, feed }: GatewayParts,
  { body, claim }: RunOrder,
  { gone, request, onProgress }: RunOptions,
  use: (box: Box, run: <Outcome>(useEvents: UseEvents<Outcome>) => Promise<Outcome>) => Promise<Result>,
): Promise<Result> {
  const { cmd, timeout_ms, ...rest } = body;
  const box = await supervisor.request(
    'createBox',
    { body: { ...rest, workdir: '/root' }, ephemeral: true, ...(claim === undefined ? {} : { claim }) },
    // A box that is made just when the client leaves must still be heard of, to be removed.
    {
      timeoutMs: createTimeoutMs,
      requestId: request.id,
      signal: gone,
      waitAfterAbort: true,
      ...(onProgress === undefined ? {} : { onProgress }),
    },
  );
  faultPoint('gateway.run.created');
  try {
    return await use(box, async (useEvents) => {
      const command = { cmd, ...(timeout_ms === undefined ? {} : { timeout_ms }) };
      const exec = await supervisor.request(
        'startExec',
        { box: box.id, body: command },
        { timeoutMs: execTimeoutMs, requestId: request.id, signal: gone },
      );
      return useEvents(feed.read(exec, -1, gone));
    });
  } finally {
    await supervisor
      .request(
        'removeBox',
        { box: box.id, force: true },
        { timeoutMs: removeTimeoutMs, requestId: request.id, resend: true },
      )
      .catch((error: unknown) => {
        const known = toBoxRunError(error);
        if (known.code !== 'BOX_NOT_FOUND')
          request.log.warn({ err: known, requestId: request.id, box: box.id }, 'the box of a run was not removed');
      });
  }
}

/** The answer counts even where it cannot be kept: the same key then runs again. */
async function keep(
  { keepAnswer, log }: GatewayParts,
  answer: Parameters<GatewayParts['keepAnswer']>[0],
): Promise<void> {
  await keepAnswer(answer).catch((error: unknown) => {
    log.warn({ err: error, box: answer.rowId }, 'the answer of a run could not be kept');
  });
}

async function collect(batches: AsyncIterable<readonly Event[]>, meters: GatewayParts['meters']): Promise<RunResult> {
  const output = {
    stdout: createOutputText(limits.runOutputBytesMax),
    stderr: createOutputText(limits.runOutputBytesMax),
  };
  for await (const events of batches) {
    for (const event of events) {
      if (event.type === 'exit') {
        meters.outputLost('run_cut', output.stdout.lostBytes + output.stderr.lostBytes);
        return { ...exitOf(event), stdout: output.stdout.text(), stderr: output.stderr.text() };
      }
      if (event.stream !== null) output[event.stream].add(event.data);
    }
  }
  throw endless();
}

function endless(): BoxRunError {
  return new BoxRunError('RUNTIME_ERROR', 'the command ended without saying how');
}

function exitOf(event: Event): Pick<RunResult, 'exit_code' | 'error_message'> {
  const exit = JSON.parse(Buffer.from(event.data).toString('utf8')) as { exit_code: number | null; error?: string };
  return { exit_code: exit.exit_code, error_message: exit.error ?? null };
}
