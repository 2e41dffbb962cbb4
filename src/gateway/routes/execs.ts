// The routes for commands: start, list, get, cancel, signal, and the stream of their output events.
// The gateway finds an exec only in the path of its own box.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ExecBody, SignalBody, type Exec } from '../../shared/api.ts';
import { userProblem } from '../../shared/boxes/box-user.ts';
import type { SupervisorContract } from '../../shared/contracts/supervisor.ts';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import type { ParamsOf } from '../../shared/ipc/contract.ts';
import { createStopwatch } from '../../shared/observe/stage-times.ts';
import { rowAnswer } from '../reads/answer-cache.ts';
import { withCleanEnvironment } from '../http/box-environment.ts';
import type { ListSource } from '../reads/list-answer.ts';
import { whileProcessing } from '../http/long-answer.ts';
import { pageOf, sendAnswer } from '../reads/pages.ts';
import type { GatewayParts } from '../parts.ts';
import { encodeEvents, encodeNotice, eventStreamType, type SseEncoding, type StreamParts } from '../live/sse.ts';
import { keyOf, parseTarget, unknownAction } from '../http/target.ts';
import { claimOf } from '../http/idempotency-header.ts';
import { withServerTiming } from '../live/server-timing.ts';
import { createBodyParse } from '../http/body.ts';
import { createParseQuery, EventsQuery, ExecQuery, ExecsQuery } from '../http/validation.ts';
import { signalNumber } from '../http/signal-number.ts';
import { findExec, raiseNoBox, raiseNoExec, type ExecName } from '../reads/found-rows.ts';
import { answerWithEvents, sendBatches } from '../live/event-answer.ts';

interface ExecPath {
  Params: { box: string; exec: string };
}

const parseExec = createBodyParse(ExecBody);
const parseSignal = createBodyParse(SignalBody);
const parseEventsQuery = createParseQuery(EventsQuery);
const parseExecsQuery = createParseQuery(ExecsQuery);
const parseExecQuery = createParseQuery(ExecQuery);

export function addExecRoutes(app: FastifyInstance, parts: GatewayParts): void {
  const { supervisor, rows, answers, lists } = parts;

  app.post<{ Params: { box: string } }>('/v1/boxes/:box/exec', async (request, reply) => {
    const stopwatch = createStopwatch();
    const execPart = await stopwatch.time('validate', async () => execParams(request, reply));
    const params = { box: keyOf(request.params.box), ...execPart };
    const work = stopwatch.time('supervisor', () => supervisor.request('startExec', params, { requestId: request.id }));
    const exec = await whileProcessing(reply, work);
    faultPoint('gateway.exec.answering');
    return reply.code(201).send(withServerTiming(reply, stopwatch.times, exec));
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
      return sendAnswer(found ?? (await raiseNoExec(rows, nameOf(request.params))), request, reply);
    }
    const exec = await findExec(rows, nameOf(request.params));
    if (exec.status !== 'running') return exec;
    await whileProcessing(reply, waitForEnd(parts, exec, wait, reply));
    return findExec(rows, { box: exec.box_id, exec: exec.id });
  });

  app.post<ExecPath>('/v1/boxes/:box/exec/:exec', async (request, reply): Promise<Exec> => {
    const { key, action } = parseTarget(request.params.exec);
    const params = { box: keyOf(request.params.box), execId: key };
    if (action === 'signal') {
      const signal = signalNumber(parseSignal(request, reply).signal);
      return whileProcessing(reply, supervisor.request('signalExec', { ...params, signal }, { requestId: request.id }));
    }
    if (action !== 'cancel') throw unknownAction(action, ['cancel', 'signal']);
    const canceled = await whileProcessing(reply, supervisor.request('cancelExec', params, { requestId: request.id }));
    faultPoint('gateway.cancel.answering');
    return canceled;
  });

  app.head<ExecPath>('/v1/boxes/:box/exec/:exec/events', async (request, reply) => {
    await findExec(rows, nameOf(request.params));
    return reply.type(eventStreamType).send();
  });
  app.get<ExecPath>('/v1/boxes/:box/exec/:exec/events', { exposeHeadRoute: false }, async (request, reply) => {
    const exec = await findExec(rows, nameOf(request.params));
    const { encoding = 'text', follow = 'true' } = parseEventsQuery(request.query);
    const isFollowed = follow !== 'false' && follow !== '0';
    await streamEvents(parts, { exec, afterSeq: resumeAfter(request), encoding, isFollowed }, request, reply);
  });
}

type StartExecParams = Omit<ParamsOf<SupervisorContract, 'startExec'>, 'box'>;

function execParams(request: FastifyRequest, reply: FastifyReply): StartExecParams {
  const body = parseExec(request, reply);
  const problem = typeof body.user === 'string' ? userProblem(body.user) : null;
  if (problem !== null) {
    throw new BoxRunError('VALIDATION_ERROR', `'user' ${problem}`, {
      hint: 'name a user of the box, or give a smaller id',
    });
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

function nameOf({ box, exec }: ExecPath['Params']): ExecName {
  return { box: keyOf(box), exec: keyOf(exec) };
}

/** The `seq` of the last event that the client has: from the header Last-Event-ID, or else from the query. */
function resumeAfter(request: FastifyRequest): number {
  const header = request.headers['last-event-id'];
  // An id of another form, for example from a stream that a proxy has merged, is not refused but ignored.
  if (typeof header === 'string' && /^\d{1,15}$/.test(header)) return Number(header);
  return parseEventsQuery(request.query).after ?? -1;
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
): Promise<void> {
  const name = `the event stream of ${exec.id}`;
  await answerWithEvents(parts, { request, reply, name, onError: 'come-again' }, async (stream) => {
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
