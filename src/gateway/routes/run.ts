// The operation for runs: one command in a box of its own. Its handler creates the box, runs the command, collects the
// output, and always removes the box, also if the client leaves. If this process dies, the supervisor removes the box,
// because it is marked as ephemeral.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { RunBody, RunResult, type Box } from '../../shared/api.ts';
import type { Event, KeyClaim } from '../../shared/contracts/writer.ts';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import { limits } from '../../shared/limits.ts';
import { withCleanEnvironment } from '../http/box-environment.ts';
import { whileProcessing } from '../http/long-answer.ts';
import { createOutputPool, createOutputText, type OutputPool } from '../runs/output-text.ts';
import type { GatewayParts } from '../parts.ts';
import { createRepeatedRuns } from '../runs/repeated-runs.ts';
import { keptAnswer, runOutput, sendOutput, type RunOutput } from '../runs/run-output.ts';
import { claimOf } from '../http/idempotency-header.ts';
import { answerWithEvents } from '../live/event-answer.ts';
import { acceptsStream, encodeEvents, encodeNotice, type SseEncoding } from '../live/sse.ts';
import { createErrors, execErrors, text, type Operations } from '../openapi/operation.ts';
import type { HandlersOf } from './handler.ts';

export const runOperations = {
  run: {
    method: 'post',
    path: '/v1/run',
    summary: 'Run one command in a box of its own, which is removed afterwards',
    headers: ['Idempotency-Key'],
    /** For a run that streams its output. */
    query: Type.Object({ encoding: Type.Optional(Type.Enum(['text', 'base64'])) }),
    body: { schema: RunBody, required: true },
    example: { body: { image: 'base', cmd: ['uname', '-a'], cpu: 1, memory_mb: 128 } },
    answers: {
      200: {
        description:
          'How the command ended, and its output. With Accept: text/event-stream, its progress, then the events log ' +
          'and exit, or error',
        content: { 'application/json': RunResult, 'text/event-stream': text },
      },
    },
    errors: [...createErrors, ...execErrors, 'BOX_NOT_RUNNING'],
  },
} as const satisfies Operations;

interface RunInput {
  readonly body: RunBody;
  readonly claim?: KeyClaim;
}

/** Consumes the events of the command, up to the exit. */
type UseEvents<Result> = (batches: AsyncIterable<readonly Event[]>) => Promise<Result>;

export function createRunHandlers(parts: GatewayParts): HandlersOf<typeof runOperations> {
  const repeated = createRepeatedRuns(parts);
  const pool = createOutputPool(limits.runsOutputBytesMax);
  return {
    run: async ({ request, reply, query, body: readBody }) => {
      const { encoding = 'text' } = query();
      const parsed = readBody();
      const claim = claimOf(request, 'run', parsed);
      const body = withCleanEnvironment(parsed);
      const gone = whenGone(reply, parts.closing);
      if (!acceptsStream(request)) {
        const input = { body, ...(claim === undefined ? {} : { claim }) };
        const run = repeated.once(claim, () => runOnce(parts, input, { gone, request, pool }));
        return sendOutput(await whileProcessing(reply, run), reply);
      }
      if (claim !== undefined) {
        throw new BoxRunError('VALIDATION_ERROR', 'a run whose output is streamed cannot be repeated', {
          hint: 'leave Idempotency-Key away',
        });
      }
      return streamRun(parts, { body }, { request, reply, gone, encoding });
    },
  };
}

/** Aborts when the client closes the connection before its answer, or when the gateway stops. */
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

interface CollectedRun {
  readonly request: FastifyRequest;
  readonly gone: AbortSignal;
  /** The limit for the output of all runs together. */
  readonly pool: OutputPool;
}

async function runOnce(
  parts: GatewayParts,
  input: RunInput,
  { gone, request, pool }: CollectedRun,
): Promise<RunOutput> {
  const { claim } = input;
  return withOwnBox(parts, input, { gone, request }, async (box, run) => {
    const result = await run((batches) => collect(batches, parts.meters, pool));
    faultPoint('gateway.run.collected');
    if (claim !== undefined)
      await storeAnswer(parts, { scope: claim.scope, key: claim.key, rowId: box.id, answer: keptAnswer(result) });
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
 * A run that streams its progress and output, so that a person can follow it. The exit event is sent after the box is
 * removed.
 */
async function streamRun(
  parts: GatewayParts,
  input: RunInput,
  { request, reply, gone, encoding }: StreamedRun,
): Promise<FastifyReply> {
  return answerWithEvents(parts, { request, reply, name: 'a run', onError: 'last-event' }, async (stream) => {
    const onProgress = (stage: string, message: string) => {
      stream.offer(encodeNotice('progress', { stage, message }));
    };
    const write = async (events: readonly Event[]) => {
      for (const piece of encodeEvents(events, encoding)) await stream.write(piece);
    };
    const exit = await withOwnBox(parts, input, { gone, request, onProgress }, (_, run) =>
      run(async (batches) => {
        for await (const events of batches) {
          await write(events.filter(({ type }) => type === 'log'));
          const last = events.find(({ type }) => type === 'exit');
          if (last !== undefined) return last;
        }
        throw noExitEvent();
      }),
    );
    await write([exit]);
  });
}

interface RunOptions {
  readonly gone: AbortSignal;
  readonly request: FastifyRequest;
  readonly onProgress?: (stage: string, message: string) => void;
}

/** Creates the box, lets `use` run the command in it, and removes the box. */
async function withOwnBox<Result>(
  { supervisor, feed }: GatewayParts,
  { body, claim }: RunInput,
  { gone, request, onProgress }: RunOptions,
  use: (box: Box, run: <Outcome>(useEvents: UseEvents<Outcome>) => Promise<Outcome>) => Promise<Result>,
): Promise<Result> {
  const { cmd, timeout_ms, ...rest } = body;
  const box = await supervisor.request(
    'createBox',
    { body: { ...rest, workdir: '/root' }, ephemeral: true, ...(claim === undefined ? {} : { claim }) },
    // If the client leaves while the box is created, the gateway still waits for the box, because it must remove it.
    {
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
        { requestId: request.id, signal: gone },
      );
      return useEvents(feed.read(exec, -1, gone));
    });
  } finally {
    await supervisor
      .request('removeBox', { box: box.id, force: true }, { requestId: request.id, resend: true })
      .catch((error: unknown) => {
        const known = toBoxRunError(error);
        if (known.code !== 'BOX_NOT_FOUND')
          request.log.warn({ err: known, requestId: request.id, box: box.id }, 'the box of a run was not removed');
      });
  }
}

/** Stores the answer for repeated requests. If that fails, the answer is still sent, and the same key runs again. */
async function storeAnswer(
  { keepAnswer, log }: GatewayParts,
  answer: Parameters<GatewayParts['keepAnswer']>[0],
): Promise<void> {
  await keepAnswer(answer).catch((error: unknown) => {
    log.warn({ err: error, box: answer.rowId }, 'the answer of a run could not be kept');
  });
}

/** Collects the output up to the exit event. If it fails, it releases its bytes in the pool. */
async function collect(
  batches: AsyncIterable<readonly Event[]>,
  meters: GatewayParts['meters'],
  pool: OutputPool,
): Promise<RunOutput> {
  const stdout = createOutputText(limits.runOutputBytesMax, pool);
  const stderr = createOutputText(limits.runOutputBytesMax, pool);
  try {
    for await (const events of batches) {
      for (const event of events) {
        if (event.type === 'exit') {
          meters.outputLost('run_cut', stdout.lostBytes + stderr.lostBytes);
          return runOutput(exitOf(event), stdout, stderr, pool);
        }
        if (event.stream !== null) (event.stream === 'stdout' ? stdout : stderr).add(event.data);
      }
    }
    throw noExitEvent();
  } catch (error) {
    pool.release(stdout.keptBytes + stderr.keptBytes);
    throw error;
  }
}

function noExitEvent(): BoxRunError {
  return new BoxRunError('RUNTIME_ERROR', 'the command ended without saying how');
}

function exitOf(event: Event): Pick<RunResult, 'exit_code' | 'error_message'> {
  const exit = JSON.parse(Buffer.from(event.data).toString('utf8')) as { exit_code: number | null; error?: string };
  return { exit_code: exit.exit_code, error_message: exit.error ?? null };
}
