// The operations for commands: start, list, get, cancel, signal, and the stream of their output events.
// The gateway finds an exec only in the path of its own box.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { Exec, ExecBody, SignalBody } from '../../shared/api.ts';
import { userProblem } from '../../shared/boxes/box-user.ts';
import type { SupervisorContract } from '../../shared/contracts/supervisor.ts';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import type { ParamsOf } from '../../shared/ipc/contract.ts';
import { limits } from '../../shared/limits.ts';
import { createStopwatch } from '../../shared/observe/stage-times.ts';
import { rowAnswer } from '../reads/answer-cache.ts';
import { withCleanEnvironment } from '../http/box-environment.ts';
import type { ListSource } from '../reads/list-answer.ts';
import { whileProcessing } from '../http/long-answer.ts';
import { pageOf, sendAnswer } from '../reads/pages.ts';
import type { GatewayParts } from '../parts.ts';
import { encodeEvents, encodeNotice, type SseEncoding, type StreamParts } from '../live/sse.ts';
import { claimOf } from '../http/idempotency-header.ts';
import { withServerTiming } from '../live/server-timing.ts';
import { signalNumber } from '../http/signal-number.ts';
import { findExec, raiseNoBox, raiseNoExec } from '../reads/found-rows.ts';
import { answerWithEvents, sendBatches } from '../live/event-answer.ts';
import {
  boxErrors,
  eventStream,
  execErrors,
  json,
  pageHeaders,
  pageQuery,
  type Operations,
} from '../openapi/operation.ts';
import type { HandlersOf } from './handler.ts';

export const execOperations = {
  startExec: {
    method: 'post',
    path: '/v1/boxes/{box}/exec',
    summary: 'Start a command in a box',
    headers: ['Idempotency-Key'],
    body: { schema: ExecBody, required: true },
    example: { body: { cmd: ['echo', 'hello'], timeout_ms: 10_000 } },
    answers: { 201: json('The command; a short one has ended already', Exec, 'Server-Timing') },
    errors: [...execErrors, 'BOX_NOT_RUNNING', 'RESOURCE_EXCEEDED'],
  },
  listExecs: {
    method: 'get',
    path: '/v1/boxes/{box}/execs',
    summary: 'The commands of a box, newest first',
    query: Type.Object(pageQuery),
    example: { query: { limit: '100' } },
    answers: { 200: json('Commands', Type.Array(Exec), ...pageHeaders) },
    errors: boxErrors,
  },
  getExec: {
    method: 'get',
    path: '/v1/boxes/{box}/exec/{exec}',
    summary: 'One command; with wait, when it has ended',
    query: Type.Object({ wait: Type.Optional(Type.Integer({ minimum: 0, maximum: limits.execWaitMaxS })) }),
    example: { query: { wait: '10' } },
    answers: { 200: json('The command', Exec) },
    errors: execErrors,
  },
  cancelExec: {
    method: 'post',
    path: '/v1/boxes/{box}/exec/{exec}:cancel',
    summary: 'Kill a command and everything that it has started',
    answers: { 200: json('The command, canceled', Exec) },
    errors: [...execErrors, 'BOX_NOT_RUNNING', 'EXEC_ALREADY_FINISHED'],
  },
  signalExec: {
    method: 'post',
    path: '/v1/boxes/{box}/exec/{exec}:signal',
    summary: 'Send a signal to a command, such as INT or 2',
    body: { schema: SignalBody, required: true },
    example: { body: { signal: 'INT' } },
    answers: { 200: json('The command', Exec) },
    errors: [...execErrors, 'BOX_NOT_RUNNING', 'EXEC_ALREADY_FINISHED'],
  },
  followExec: {
    method: 'get',
    path: '/v1/boxes/{box}/exec/{exec}/events',
    summary: 'The output and the exit of a command, as server-sent events',
    query: Type.Object({
      /** If false, the stream sends the events that exist now and then the event `end`. */
      follow: Type.Optional(Type.Enum(['true', 'false', '1', '0', ''])),
      after: Type.Optional(Type.Integer()),
      encoding: Type.Optional(Type.Enum(['text', 'base64'])),
    }),
    headers: ['Last-Event-ID'],
    example: { query: { follow: 'false' } },
    answers: {
      200: eventStream(
        'The events log, then exit; with follow=false, the events that exist now, then end; only end, if the exit came ' +
          'before the event to resume after',
      ),
    },
    errors: execErrors,
    head: 'by-handler',
  },
} as const satisfies Operations;

export function createExecHandlers(parts: GatewayParts): HandlersOf<typeof execOperations> {
  const { supervisor, rows, answers, lists } = parts;
  return {
    startExec: async ({ request, reply, path, body }) => {
      const stopwatch = createStopwatch();
      const execPart = await stopwatch.time('validate', async () => execParams(request, body()));
      const params = { ...path, ...execPart };
      const options = { requestId: request.id };
      const work = stopwatch.time('supervisor', () => supervisor.request('startExec', params, options));
      const exec = await whileProcessing(reply, work);
      faultPoint('gateway.exec.answering');
      return reply.code(201).send(withServerTiming(reply, stopwatch.times, exec));
    },

    listExecs: async ({ request, reply, path, query }) => {
      const page = pageOf(query());
      const source = async (): Promise<ListSource> => {
        const { id } = (await rows.box(path.box)) ?? raiseNoBox(path.box);
        return { page: (part) => rows.execs(id, part), end: (part) => rows.execsEnd(id, part) };
      };
      return lists.send(source, page, request, reply);
    },

    getExec: async ({ request, reply, path, query }) => {
      const { wait = 0 } = query();
      if (wait === 0) {
        const { box, exec } = path;
        const found = await answers.get(`exec ${box} ${exec}`, async () => rowAnswer(await rows.execJson(box, exec)));
        return sendAnswer(found ?? (await raiseNoExec(rows, path)), request, reply);
      }
      const exec = await findExec(rows, path);
      if (exec.status !== 'running') return exec;
      await whileProcessing(reply, waitForEnd(parts, exec, wait, reply));
      return findExec(rows, { box: exec.box_id, exec: exec.id });
    },

    cancelExec: async ({ request, reply, path }) => {
      const params = { box: path.box, execId: path.exec };
      const work = supervisor.request('cancelExec', params, { requestId: request.id });
      const canceled = await whileProcessing(reply, work);
      faultPoint('gateway.cancel.answering');
      return canceled;
    },

    signalExec: async ({ request, reply, path, body }) => {
      const params = { box: path.box, execId: path.exec, signal: signalNumber(body().signal) };
      return whileProcessing(reply, supervisor.request('signalExec', params, { requestId: request.id }));
    },

    followExec: async ({ request, reply, path, query }) => {
      const exec = await findExec(rows, path);
      const { encoding = 'text', follow = 'true', after = -1 } = query();
      const isFollowed = follow !== 'false' && follow !== '0';
      const afterSeq = lastSeqOf(request) ?? after;
      return streamEvents(parts, { exec, afterSeq, encoding, isFollowed }, request, reply);
    },
  };
}

type StartExecParams = Omit<ParamsOf<SupervisorContract, 'startExec'>, 'box'>;

function execParams(request: FastifyRequest, body: ExecBody): StartExecParams {
  const problem = typeof body.user === 'string' ? userProblem(body.user) : null;
  if (problem !== null) {
    throw new BoxRunError('VALIDATION_ERROR', `'user' ${problem}`, {
      hint: 'name a user of the box, or give a smaller id',
    });
  }
  if (body.detachable === true && body.tty !== true) {
    throw new BoxRunError('VALIDATION_ERROR', "'detachable' needs a terminal", { hint: 'add "tty": true' });
  }
  const claim = claimOf(request, 'exec', body);
  return { body: withCleanEnvironment(body), ...(claim === undefined ? {} : { claim }) };
}

/** Waits at most `waitS` seconds until the exec has ended. Resolves early if the client leaves or the gateway stops. */
async function waitForEnd(
  { feed, closing }: GatewayParts,
  exec: Exec,
  waitS: number,
  reply: FastifyReply,
): Promise<void> {
  const stopWaiting = new AbortController();
  const end = () => {
    stopWaiting.abort();
  };
  const timer = setTimeout(end, waitS * 1000);
  reply.raw.once('close', end);
  closing.addEventListener('abort', end, { once: true });
  if (closing.aborted) end();
  try {
    await feed.ended(exec, stopWaiting.signal);
  } catch (error) {
    if (toBoxRunError(error).code !== 'CANCELED') throw error;
  } finally {
    clearTimeout(timer);
    closing.removeEventListener('abort', end);
    reply.raw.off('close', end);
  }
}

/** The `seq` of the last event that the client has, from the header Last-Event-ID; null if it does not say. */
function lastSeqOf({ headers }: FastifyRequest): number | null {
  const id = headers['last-event-id'];
  // An id of another form, for example from a stream that a proxy has merged, is not refused but ignored.
  return typeof id === 'string' && /^\d{1,15}$/.test(id) ? Number(id) : null;
}

interface EventStream {
  readonly exec: Exec;
  readonly afterSeq: number;
  readonly encoding: SseEncoding;
  /**
   * True: sends events up to the exit event. If the client has that one already, sends only the event `end`. False:
   * sends the events that exist now, and then `end`. Without `end`, the client knows that events are missing.
   */
  readonly isFollowed: boolean;
}

async function streamEvents(
  { feed, ...parts }: StreamParts & Pick<GatewayParts, 'feed'>,
  { exec, afterSeq, encoding, isFollowed }: EventStream,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const name = `the event stream of ${exec.id}`;
  return answerWithEvents(parts, { request, reply, name, onError: 'come-again' }, async (stream) => {
    let hasExit = false;
    const batches = isFollowed ? feed.read(exec, afterSeq, stream.ended) : feed.past(exec, afterSeq, stream.ended);
    await sendBatches(
      stream,
      batches,
      (events) => {
        hasExit ||= events.at(-1)?.type === 'exit';
        return encodeEvents(events, encoding);
      },
      () => {
        faultPoint('gateway.events.sent');
      },
    );
    // The client may have had the exit already. Then no exit event tells it that the stream is complete.
    if (!isFollowed || !(hasExit || stream.ended.aborted)) await stream.write(encodeNotice('end', {}));
  });
}
