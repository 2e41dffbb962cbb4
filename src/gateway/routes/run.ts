// One command in a box of its own, in one request: create, run, collect the output, remove whatever happens.
// When the client leaves, the box goes; when this process dies, the supervisor removes it, as the box is marked ephemeral.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { RunBody, type Box, type RunResult } from '../../shared/api.ts';
import type { Event, KeyClaim } from '../../shared/contracts/writer.ts';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { withCleanEnvironment } from '../environment.ts';
import { whileProcessing } from '../long-answer.ts';
import { createOutputText } from '../output-text.ts';
import type { GatewayParts } from '../parts.ts';
import { createRepeatedRuns, keptAnswer } from '../repeated-runs.ts';
import { claimOf } from '../request-key.ts';
import { createParse } from '../validation.ts';
import { createTimeoutMs, removeTimeoutMs } from './boxes.ts';
import { execTimeoutMs } from './execs.ts';

const parseRun = createParse(RunBody);

interface RunOrder {
  readonly body: RunBody;
  readonly claim: KeyClaim | undefined;
}

export function addRunRoutes(app: FastifyInstance, parts: GatewayParts): void {
  const repeated = createRepeatedRuns(parts);
  app.post('/v1/run', async (request, reply) => {
    const parsed = parseRun(request.body);
    const claim = claimOf(request, 'run', parsed);
    const order = { body: withCleanEnvironment(parsed), claim };
    const gone = whenGone(reply, parts.closing);
    return whileProcessing(reply, repeated.once(claim, () => runOnce(parts, order, gone, request)));
  });
}

/** Aborts when the client has gone before its answer, or the gateway goes. */
function whenGone(reply: FastifyReply, closing: AbortSignal): AbortSignal {
  const gone = new AbortController();
  const abort = () => { gone.abort(); };
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
  { body, claim }: RunOrder,
  gone: AbortSignal,
  request: FastifyRequest,
): Promise<RunResult> {
  const { supervisor } = parts;
  const { cmd, timeout_ms, ...rest } = body;
  const box = await supervisor.request(
    'createBox',
    { body: { ...rest, workdir: '/root' }, ephemeral: true, ...(claim === undefined ? {} : { claim }) },
    // A box that is made just when the client leaves must still be heard of, to be removed.
    { timeoutMs: createTimeoutMs, signal: gone, waitAfterAbort: true },
  );
  try {
    const result = await runIn(parts, box, { cmd, ...(timeout_ms === undefined ? {} : { timeout_ms }) }, gone);
    if (claim !== undefined) await keep(parts, { scope: claim.scope, key: claim.key, rowId: box.id, answer: keptAnswer(result) });
    return result;
  } finally {
    await supervisor
      .request('removeBox', { box: box.id, force: true }, { timeoutMs: removeTimeoutMs, resend: true })
      .catch((error: unknown) => {
        const known = toBoxRunError(error);
        if (known.code !== 'BOX_NOT_FOUND') request.log.warn({ err: known, box: box.id }, 'the box of a run was not removed');
      });
  }
}

/** The answer counts even where it cannot be kept: the same key then runs again. */
async function keep({ keepAnswer, log }: GatewayParts, answer: Parameters<GatewayParts['keepAnswer']>[0]): Promise<void> {
  await keepAnswer(answer).catch((error: unknown) => {
    log.warn({ err: error, box: answer.rowId }, 'the answer of a run could not be kept');
  });
}

async function runIn(
  { supervisor, feed, meters }: GatewayParts,
  box: Box,
  body: Pick<RunBody, 'cmd' | 'timeout_ms'>,
  gone: AbortSignal,
): Promise<RunResult> {
  const exec = await supervisor.request('startExec', { box: box.id, body }, { timeoutMs: execTimeoutMs, signal: gone });
  const output = { stdout: createOutputText(limits.runOutputBytesMax), stderr: createOutputText(limits.runOutputBytesMax) };
  for await (const events of feed.read(exec, -1, gone)) {
    for (const event of events) {
      if (event.type === 'exit') {
        meters.outputLost('run_cut', output.stdout.lostBytes + output.stderr.lostBytes);
        return { ...exitOf(event), stdout: output.stdout.text(), stderr: output.stderr.text() };
      }
      if (event.stream !== null) output[event.stream].add(event.data);
    }
  }
  throw new BoxRunError('RUNTIME_ERROR', 'the command ended without saying how');
}

function exitOf(event: Event): Pick<RunResult, 'exit_code' | 'error_message'> {
  const exit = JSON.parse(Buffer.from(event.data).toString('utf8')) as { exit_code: number | null; error?: string };
  return { exit_code: exit.exit_code, error_message: exit.error ?? null };
}
