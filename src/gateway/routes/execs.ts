// Commands in boxes over HTTP: start, list, get, cancel, and the stream of their events.
// An exec is found only under the box that it belongs to.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ExecBody, type Exec } from '../../shared/api.ts';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { withCleanEnvironment } from '../environment.ts';
import { whileProcessing } from '../long-answer.ts';
import type { GatewayParts } from '../parts.ts';
import { encodeEvents, openSseStream, type SseEncoding } from '../sse.ts';
import { keyOf, parseTarget, unknownAction } from '../target.ts';
import { createParse, EventsQuery, numberInQuery } from '../validation.ts';
import { raiseNoBox } from './boxes.ts';

interface ExecPath {
  Params: { box: string; exec: string };
}

const parseExec = createParse(ExecBody);
const parseEventsQuery = createParse(EventsQuery);

export const execTimeoutMs = limits.execStartTimeoutMs + limits.requestTimeoutMs;
const cancelTimeoutMs = limits.killTimeoutMs + limits.boxStopTimeoutMs + limits.requestTimeoutMs;

export function addExecRoutes(app: FastifyInstance, parts: GatewayParts): void {
  const { supervisor, rows } = parts;

  app.post<{ Params: { box: string } }>('/v1/boxes/:box/exec', async (request, reply) => {
    const params = { box: keyOf(request.params.box), body: withCleanEnvironment(parseExec(request.body)) };
    const work = supervisor.request('startExec', params, { timeoutMs: execTimeoutMs });
    const exec = await whileProcessing(reply, work);
    return reply.code(201).send(exec);
  });

  app.get<{ Params: { box: string } }>('/v1/boxes/:box/execs', async (request) => {
    const key = keyOf(request.params.box);
    const box = (await rows.box(key)) ?? raiseNoBox(key);
    return rows.execs(box.id);
  });

  app.get<ExecPath>('/v1/boxes/:box/exec/:exec', async (request) => findExec(parts, request.params));

  app.post<ExecPath>('/v1/boxes/:box/exec/:exec', async (request, reply): Promise<Exec> => {
    const { key, action } = parseTarget(request.params.exec);
    if (action !== 'cancel') throw unknownAction(action, ['cancel']);
    const params = { box: keyOf(request.params.box), execId: key };
    return whileProcessing(reply, supervisor.request('cancelExec', params, { timeoutMs: cancelTimeoutMs }));
  });

  app.get<ExecPath>('/v1/boxes/:box/exec/:exec/events', { exposeHeadRoute: false }, async (request, reply) => {
    const exec = await findExec(parts, request.params);
    const { encoding = 'text' } = parseEventsQuery(request.query);
    await streamEvents(parts, { exec, afterSeq: resumeAfter(request), encoding }, request, reply);
  });
}

async function findExec({ rows }: GatewayParts, params: ExecPath['Params']): Promise<Exec> {
  const boxKey = keyOf(params.box);
  const execId = keyOf(params.exec);
  const exec = await rows.exec(boxKey, execId);
  if (exec !== null) return exec;
  if ((await rows.box(boxKey)) === null) raiseNoBox(boxKey);
  throw new BoxRunError('EXEC_NOT_FOUND', `box '${boxKey}' has no exec '${execId}'`);
}

/** The seq of the last event that the client has: of a reconnecting EventSource, or of its own choice. */
function resumeAfter(request: FastifyRequest): number {
  const header = request.headers['last-event-id'];
  // A foreign id (of a stream that a proxy has merged, say) is no reason to refuse: such a client gets everything.
  if (typeof header === 'string' && /^\d{1,15}$/.test(header)) return Number(header);
  return numberInQuery('after', parseEventsQuery(request.query).after) ?? -1;
}

interface EventStream {
  readonly exec: Exec;
  readonly afterSeq: number;
  readonly encoding: SseEncoding;
}

async function streamEvents(
  { feed, closing }: GatewayParts,
  { exec, afterSeq, encoding }: EventStream,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const stream = openSseStream(reply, closing);
  try {
    for await (const events of feed.read(exec, afterSeq, stream.ended)) {
      await stream.write(encodeEvents(events, encoding));
      if (stream.ended.aborted) break;
    }
  } catch (error) {
    // The stream ends without an exit event, which tells the client to come again.
    const known = toBoxRunError(error);
    if (known.code !== 'CANCELED') request.log.warn({ err: known, exec: exec.id }, 'an event stream broke off');
  } finally {
    stream.end();
  }
}
