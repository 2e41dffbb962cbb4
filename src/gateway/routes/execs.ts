// Commands in boxes over HTTP: start, list, get, cancel, and the stream of their events.
// An exec is found only under the box that it belongs to.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ExecBody, SignalBody, type Exec } from '../../shared/api.ts';
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
import {
  encodeEvents,
  encodeNotice,
  eventStreamType,
  openSseStream,
  type SseEncoding,
  type StreamParts,
} from '../live/sse.ts';
import { keyOf, parseTarget, unknownAction } from '../http/target.ts';
import { claimOf } from '../http/idempotency-header.ts';
import { withServerTiming } from '../http/server-timing.ts';
import { createParse, createParseQuery, EventsQuery, ExecQuery, ExecsQuery } from '../http/validation.ts';
import { signalNumber } from '../http/signal-number.ts';
import { raiseNoBox } from './boxes.ts';

interface ExecPath {
  Params: { box: string; exec: string };
}

const parseExec = createParse(ExecBody);
const parseSignal = createParse(SignalBody);
const parseEventsQuery = createParseQuery(EventsQuery);
const parseExecsQuery = createParseQuery(ExecsQuery);
const parseExecQuery = createParseQuery(ExecQuery);

export const execTimeoutMs = limits.execStartTimeoutMs + limits.requestTimeoutMs;
const cancelTimeoutMs = limits.killTimeoutMs + limits.boxStopTimeoutMs + limits.requestTimeoutMs;

export function addExecRoutes(app: FastifyInstance, parts: GatewayParts): void {
  const { supervisor, rows, answers, lists } = parts;

  app.post<{ Params: { box: string } }>('/v1/boxes/:box/exec', async (request, reply) => {
    const watch = createStopwatch();
    const order = await watch.time('validate', async () => execOrder(request));
    const params = { box: keyOf(request.params.box), ...order };
    const work = watch.time('supervisor', () =>
      supervisor.request('startExec', params, { timeoutMs: execTimeoutMs, requestId: request.id }),
    );
    const exec = await whileProcessing(reply, work);
    faultPoint('gateway.exec.answering');
    return reply.code(201).send(withServerTiming(reply, watch.times, exec));
  });

  app.get<{ Params: { box: string } }>('/v1/boxes/:box/execs', async (request, reply) => {
    const page = pageOf(parseExecsQuery(request.query));
    const key = keyOf(request.params.box);
    const source = async (): Promise<ListSource> => {
      const { id } = (await rows.box(key)) ?? raiseNoBox(key);
      return { page: (part) => rows.execs(id, part), end: (part) => rows.execsEnd(id, part) };
    };
    return lists.send(source, page, request, reply);
  });

  app.get<ExecPath>('/v1/boxes/:box/exec/:exec', async (request, reply) => {
    const { wait = 0 } = parseExecQuery(request.query);
    if (wait === 0) {
      const { box, exec } = request.params;
      const found = await answers.get(`exec ${box} ${exec}`, async () =>
        rowAnswer(await rows.execJson(keyOf(box), keyOf(exec))),
      );
      return sendAnswer(found ?? (await raiseNoExec(parts, request.params)), request, reply);
    }
    const exec = await findExec(parts, request.params);
    if (exec.status !== 'running') return exec;
    await whileProcessing(reply, waitForEnd(parts, exec, wait, reply));
    return findExec(parts, { box: exec.box_id, exec: exec.id });
  });

  app.post<ExecPath>('/v1/boxes/:box/exec/:exec', async (request, reply): Promise<Exec> => {
    const { key, action } = parseTarget(request.params.exec);
    const params = { box: keyOf(request.params.box), execId: key };
    if (action === 'signal') {
      const signal = signalNumber(parseSignal(request.body).signal);
      return whileProcessing(reply, supervisor.request('signalExec', { ...params, signal }, { requestId: request.id }));
    }
    if (action !== 'cancel') throw unknownAction(action, ['cancel', 'signal']);
    const canceled = await whileProcessing(
      reply,
      supervisor.request('cancelExec', params, { timeoutMs: cancelTimeoutMs, requestId: request.id }),
    );
    faultPoint('gateway.cancel.answering');
    return canceled;
  });

  app.head<ExecPath>('/v1/boxes/:box/exec/:exec/events', async (request, reply) => {
    await findExec(parts, request.params);
    return reply.type(eventStreamType).send();
  });
  app.get<ExecPath>('/v1/boxes/:box/exec/:exec/events', { exposeHeadRoute: false }, async (request, reply) => {
    const exec = await findExec(parts, request.params);
    const { encoding = 'text', follow = 'true' } = parseEventsQuery(request.query);
    const isFollowed = follow !== 'false' && follow !== '0';
    await streamEvents(parts, { exec, afterSeq: resumeAfter(request), encoding, isFollowed }, request, reply);
  });
}

type StartExecParams = Omit<ParamsOf<SupervisorContract, 'startExec'>, 'box'>;

function execOrder(request: FastifyRequest): StartExecParams {
  const body = parseExec(request.body);
  const problem = typeof body.user === 'string' ? userProblem(body.user) : null;
  if (problem !== null) {
    throw new BoxRunError('VALIDATION_ERROR', `'user' ${problem}`, {
      hint: 'name a user of the box, or give a smaller id',
    });
  }
  const claim = claimOf(request, 'exec', body);
  return { body: withCleanEnvironment(body), ...(claim === undefined ? {} : { claim }) };
}

/** Resolves when the exec has ended, the time is over, or the client or the gateway goes. */
async function waitForEnd(
  { feed, closing }: GatewayParts,
  exec: Exec,
  waitS: number,
  reply: FastifyReply,
): Promise<void> {
  const over = new AbortController();
  const end = () => {
    over.abort();
  };
  const timer = setTimeout(end, waitS * 1000);
  reply.raw.once('close', end);
  closing.addEventListener('abort', end, { once: true });
  if (closing.aborted) end();
  try {
    await feed.ended(exec, over.signal);
  } catch (error) {
    if (toBoxRunError(error).code !== 'CANCELED') throw error;
  } finally {
    clearTimeout(timer);
    closing.removeEventListener('abort', end);
    reply.raw.off('close', end);
  }
}

async function findExec(parts: GatewayParts, params: ExecPath['Params']): Promise<Exec> {
  const exec = await parts.rows.exec(keyOf(params.box), keyOf(params.exec));
  return exec ?? (await raiseNoExec(parts, params));
}

async function raiseNoExec({ rows }: GatewayParts, params: ExecPath['Params']): Promise<never> {
  const boxKey = keyOf(params.box);
  const execId = keyOf(params.exec);
  if ((await rows.box(boxKey)) === null) raiseNoBox(boxKey);
  throw new BoxRunError('EXEC_NOT_FOUND', `box '${boxKey}' has no exec '${execId}'`);
}

/** The seq of the last event that the client has: of a reconnecting EventSource, or of its own choice. */
function resumeAfter(request: FastifyRequest): number {
  const header = request.headers['last-event-id'];
  // A foreign id (of a stream that a proxy has merged, say) is no reason to refuse: such a client gets everything.
  if (typeof header === 'string' && /^\d{1,15}$/.test(header)) return Number(header);
  return parseEventsQuery(request.query).after ?? -1;
}

interface EventStream {
  readonly exec: Exec;
  readonly afterSeq: number;
  readonly encoding: SseEncoding;
  /** Until the exec ends; else what there is by now, and then the event `end`, without which it is not all. */
  readonly isFollowed: boolean;
}

async function streamEvents(
  { feed, ...parts }: StreamParts & Pick<GatewayParts, 'feed'>,
  { exec, afterSeq, encoding, isFollowed }: EventStream,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const stream = openSseStream(reply, parts);
  try {
    const batches = isFollowed ? feed.read(exec, afterSeq, stream.ended) : feed.past(exec, afterSeq, stream.ended);
    for await (const events of batches) {
      for (const piece of encodeEvents(events, encoding)) await stream.write(piece);
      faultPoint('gateway.events.sent');
      if (stream.ended.aborted) break;
    }
    if (!isFollowed) await stream.write(encodeNotice('end', {}));
  } catch (error) {
    // The stream ends without an exit event, which tells the client to come again.
    const known = toBoxRunError(error);
    if (known.code !== 'CANCELED')
      request.log.warn({ err: known, requestId: request.id, exec: exec.id }, 'an event stream broke off');
  } finally {
    stream.end();
  }
}
