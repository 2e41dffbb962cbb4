// The routes for boxes: create, list, get, use, change, start, stop, restart, remove, and collect garbage.
// Reads come from the database. All changes go to the supervisor, which alone decides about boxes.
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { CreateBoxBody, GcBody, StopBody, UpdateBoxBody, type Box } from '../../shared/api.ts';
import type { SupervisorContract } from '../../shared/contracts/supervisor.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import { isBoxId } from '../../shared/ids.ts';
import type { ParamsOf } from '../../shared/ipc/contract.ts';
import { createStopwatch, type Stopwatch } from '../../shared/observe/stage-times.ts';
import type { LabelFilter } from '../../shared/store/lists.ts';
import { rowAnswer } from '../reads/answer-cache.ts';
import { withCleanEnvironment } from '../http/box-environment.ts';
import type { ListSource } from '../reads/list-answer.ts';
import { whileProcessing } from '../http/long-answer.ts';
import { pageOf, sendAnswer } from '../reads/pages.ts';
import type { GatewayParts } from '../parts.ts';
import { raiseNoBox } from '../reads/found-rows.ts';
import { answerWithEvents } from '../live/event-answer.ts';
import { acceptsStream, encodeNotice, type StreamParts } from '../live/sse.ts';
import { keyOf, parseTarget, unknownAction } from '../http/target.ts';
import { claimOf } from '../http/idempotency-header.ts';
import { timingNotice, withServerTiming } from '../live/server-timing.ts';
import { createBodyParse } from '../http/body.ts';
import { BoxesQuery, createParseQuery, RemoveQuery } from '../http/validation.ts';

interface BoxPath {
  Params: { box: string };
}

const parseCreate = createBodyParse(CreateBoxBody);
const parseGc = createBodyParse(GcBody, 'optional');
const parseStop = createBodyParse(StopBody, 'optional');
const parseUpdate = createBodyParse(UpdateBoxBody);
const parseBoxesQuery = createParseQuery(BoxesQuery);
const parseRemoveQuery = createParseQuery(RemoveQuery);

export function addBoxRoutes(app: FastifyInstance, parts: GatewayParts): void {
  const { supervisor, rows, answers, lists } = parts;
  const create = async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    const stopwatch = createStopwatch();
    const params = await stopwatch.time('validate', async () => createParams(request, reply));
    if (acceptsStream(request)) return streamCreate(parts, { params, stopwatch }, request, reply);
    faultPoint('gateway.create.validated');
    const work = stopwatch.time('supervisor', () => supervisor.request('createBox', params, { requestId: request.id }));
    const box = await whileProcessing(reply, work);
    faultPoint('gateway.create.answering');
    return reply.code(201).send(withServerTiming(reply, stopwatch.times, box));
  };
  app.post('/v1/boxes', create);

  app.get('/v1/boxes', async (request, reply) => {
    const { status = 'all', label = [], ...page } = parseBoxesQuery(request.query);
    const filter = { status: status === 'all' ? null : status, labels: label.map(labelFilter) };
    const source: ListSource = {
      page: (part) => rows.boxes(filter, part),
      end: (part) => rows.boxesEnd(filter, part),
    };
    return lists.send(async () => source, pageOf(page), request, reply);
  });

  app.get<BoxPath>('/v1/boxes/:box', async (request, reply) => {
    const key = keyOf(request.params.box);
    const box = await answers.get(`box ${key}`, async () => rowAnswer(await rows.boxJson(key)));
    return sendAnswer(box ?? raiseNoBox(key), request, reply);
  });

  app.get<BoxPath>('/v1/boxes/:box/stats', async ({ params, id }) =>
    supervisor.request('boxStats', { box: params.box }, { requestId: id }),
  );

  app.post<BoxPath>('/v1/boxes/:box', async (request, reply): Promise<Box> => {
    const { key, action } = parseTarget(request.params.box);
    if (action === 'start' || action === 'restart') {
      const stopwatch = createStopwatch();
      const options = { requestId: request.id };
      const grace = action === 'restart' ? graceOf(parseStop(request, reply)) : {};
      const started = stopwatch.time('supervisor', () =>
        action === 'start'
          ? supervisor.request('startBox', { box: key }, options)
          : supervisor.request('restartBox', { box: key, ...grace }, options),
      );
      const box = await whileProcessing(reply, started);
      faultPoint('gateway.start.answering');
      return withServerTiming(reply, stopwatch.times, box);
    }
    if (action === 'stop') {
      const grace = graceOf(parseStop(request, reply));
      const options = { requestId: request.id };
      const box = await whileProcessing(reply, supervisor.request('stopBox', { box: key, ...grace }, options));
      faultPoint('gateway.stop.answering');
      return box;
    }
    throw unknownAction(action, ['start', 'stop', 'restart']);
  });

  app.patch<BoxPath>('/v1/boxes/:box', async (request, reply): Promise<Box> => {
    const body = parseUpdate(request, reply);
    checkName(body.name);
    const options = { requestId: request.id };
    const params = { box: keyOf(request.params.box), body };
    return whileProcessing(reply, supervisor.request('updateBox', params, options));
  });

  app.delete<BoxPath>('/v1/boxes/:box', async (request, reply) => {
    const query = parseRemoveQuery(request.query);
    const force = query.force === 'true' || query.force === '1';
    const grace = graceOf(query);
    const options = { requestId: request.id };
    await whileProcessing(
      reply,
      supervisor.request('removeBox', { box: keyOf(request.params.box), force, ...grace }, options),
    );
    faultPoint('gateway.remove.answering');
    return { ok: true };
  });

  app.post('/v1/gc', async (request, reply) => {
    const { older_than: olderThanS } = parseGc(request, reply);
    return whileProcessing(reply, supervisor.request('collectGarbage', { olderThanS }, { requestId: request.id }));
  });
}

function graceOf({ grace_s: graceS }: StopBody): { graceMs?: number } {
  return graceS === undefined ? {} : { graceMs: Math.round(graceS * 1000) };
}

type CreateParams = ParamsOf<SupervisorContract, 'createBox'>;

function createParams(request: FastifyRequest, reply: FastifyReply): CreateParams {
  const body: CreateBoxBody = parseCreate(request, reply);
  checkName(body.name);
  const claim = claimOf(request, 'create', body);
  return { body: withCleanEnvironment(body), ephemeral: false, ...(claim === undefined ? {} : { claim }) };
}

/** @throws VALIDATION_ERROR: a path must always say whether it means an id or a name */
function checkName(name: string | null | undefined): void {
  if (typeof name === 'string' && isBoxId(name)) {
    throw new BoxRunError('VALIDATION_ERROR', "'name' must not have the form of a box id");
  }
}

/** Parses `key` or `key=value`. The first `=` separates them, because a value can contain `=` and a key cannot. */
function labelFilter(text: string): LabelFilter {
  const equals = text.indexOf('=');
  return equals < 0 ? { key: text, value: null } : { key: text.slice(0, equals), value: text.slice(equals + 1) };
}

/**
 * Creates a box and sends the progress as events, so that a person can follow it. The create continues if the client
 * closes the connection.
 */
async function streamCreate(
  parts: StreamParts & Pick<GatewayParts, 'supervisor'>,
  { params, stopwatch }: { readonly params: CreateParams; readonly stopwatch: Stopwatch },
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  await answerWithEvents(parts, { request, reply, name: 'a create', onError: 'last-event' }, async (stream) => {
    const onProgress = (stage: string, message: string) => {
      stream.offer(encodeNotice('progress', { stage, message }));
    };
    const options = { requestId: request.id, onProgress };
    const created = stopwatch.time('supervisor', () => parts.supervisor.request('createBox', params, options));
    const { timings, ...box } = await created;
    await stream.write(timingNotice(reply, { ...stopwatch.times, ...timings }));
    await stream.write(encodeNotice('box', box));
  });
}
