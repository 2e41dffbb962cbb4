// The operations for boxes: create, list, get, use, change, start, stop, restart, remove, and collect garbage.
// Reads come from the database. All changes go to the supervisor, which alone decides about boxes.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import {
  Box,
  boxStatuses,
  BoxStats,
  CreateBoxBody,
  GcBody,
  GcResult,
  graceS,
  StopBody,
  UpdateBoxBody,
} from '../../shared/api.ts';
import type { SupervisorContract } from '../../shared/contracts/supervisor.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import { isBoxId } from '../../shared/ids.ts';
import type { ParamsOf, ResultOf } from '../../shared/ipc/contract.ts';
import { limits } from '../../shared/limits.ts';
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
import { claimOf } from '../http/idempotency-header.ts';
import { timingNotice, withServerTiming } from '../live/server-timing.ts';
import {
  boxErrors,
  createErrors,
  json,
  Ok,
  pageHeaders,
  pageQuery,
  text,
  type Operations,
} from '../openapi/operation.ts';
import type { HandlersOf } from './handler.ts';

export const boxOperations = {
  createBox: {
    method: 'post',
    path: '/v1/boxes',
    summary: 'Create a box and start it',
    headers: ['Idempotency-Key'],
    body: { schema: CreateBoxBody, required: true },
    example: { body: { image: 'base', name: 'web', cpu: 1, memory_mb: 128, labels: { team: 'blue' } } },
    answers: {
      201: {
        description: 'The box, running',
        headers: ['Server-Timing'],
        content: { 'application/json': Box },
      },
      200: {
        description: 'With Accept: text/event-stream, its progress, then the events timing and box, or error',
        content: { 'text/event-stream': text },
      },
    },
    errors: [...createErrors, ...boxErrors, 'NAME_ALREADY_EXISTS'],
  },
  listBoxes: {
    method: 'get',
    path: '/v1/boxes',
    summary: 'List boxes, newest first',
    query: Type.Object({
      status: Type.Optional(Type.Enum([...boxStatuses, 'all'])),
      label: Type.Optional(Type.Array(Type.String({ minLength: 1 }), { maxItems: limits.labelFiltersMax })),
      ...pageQuery,
    }),
    example: { query: { status: 'running', label: 'team=blue' } },
    answers: { 200: json('Boxes', Type.Array(Box), ...pageHeaders) },
  },
  getBox: {
    method: 'get',
    path: '/v1/boxes/{box}',
    summary: 'One box, by id or name',
    answers: { 200: json('The box', Box) },
    errors: boxErrors,
  },
  boxStats: {
    method: 'get',
    path: '/v1/boxes/{box}/stats',
    summary: 'What a running box uses now',
    answers: { 200: json('Its use', BoxStats) },
    errors: [...boxErrors, 'BOX_NOT_RUNNING'],
  },
  updateBox: {
    method: 'patch',
    path: '/v1/boxes/{box}',
    summary: 'Change the name and the labels of a box',
    body: { schema: UpdateBoxBody, required: true },
    example: { body: { name: 'web-2', labels: { team: null, tier: 'front' } } },
    answers: { 200: json('The box', Box) },
    errors: [...boxErrors, 'NAME_ALREADY_EXISTS'],
  },
  startBox: {
    method: 'post',
    path: '/v1/boxes/{box}:start',
    summary: 'Start a stopped box',
    answers: { 200: json('The box, running', Box, 'Server-Timing') },
    errors: [...boxErrors, ...createErrors, 'BOX_ALREADY_RUNNING'],
  },
  stopBox: {
    method: 'post',
    path: '/v1/boxes/{box}:stop',
    summary: 'Stop a running box; its disk stays',
    body: { schema: StopBody, required: false },
    example: { body: { grace_s: 2 } },
    answers: { 200: json('The box, stopped', Box) },
    errors: [...boxErrors, 'BOX_NOT_RUNNING'],
  },
  restartBox: {
    method: 'post',
    path: '/v1/boxes/{box}:restart',
    summary: 'Stop a box if it runs, and start it',
    body: { schema: StopBody, required: false },
    example: { body: { grace_s: 2 } },
    answers: { 200: json('The box, running', Box, 'Server-Timing') },
    errors: [...boxErrors, ...createErrors, 'BOX_NOT_RUNNING', 'BOX_ALREADY_RUNNING'],
  },
  removeBox: {
    method: 'delete',
    path: '/v1/boxes/{box}',
    summary: 'Remove a box with its disk, its commands and their output',
    query: Type.Object({
      force: Type.Optional(Type.Enum(['true', 'false', '1', '0', ''])),
      grace_s: Type.Optional(graceS),
    }),
    example: { query: { force: 'true' } },
    answers: { 200: json('The box is removed', Ok) },
    errors: [...boxErrors, 'BOX_ALREADY_RUNNING'],
  },
  collectGarbage: {
    method: 'post',
    path: '/v1/gc',
    summary: 'Remove boxes that are stopped or failed for long',
    body: { schema: GcBody, required: false },
    example: { body: { older_than: 86_400 } },
    answers: { 200: json('How many were removed', GcResult) },
  },
} as const satisfies Operations;

export function createBoxHandlers(parts: GatewayParts): HandlersOf<typeof boxOperations> {
  const { supervisor, rows, answers, lists } = parts;
  return {
    createBox: async ({ request, reply, body }) => {
      const stopwatch = createStopwatch();
      const params = await stopwatch.time('validate', async () => createParams(request, body()));
      if (acceptsStream(request)) return streamCreate(parts, { params, stopwatch }, request, reply);
      faultPoint('gateway.create.validated');
      const options = { requestId: request.id };
      const work = stopwatch.time('supervisor', () => supervisor.request('createBox', params, options));
      const box = await whileProcessing(reply, work);
      faultPoint('gateway.create.answering');
      return reply.code(201).send(withServerTiming(reply, stopwatch.times, box));
    },

    listBoxes: async ({ request, reply, query }) => {
      const { status = 'all', label = [], ...page } = query();
      const filter = { status: status === 'all' ? null : status, labels: label.map(labelFilter) };
      const source: ListSource = {
        page: (part) => rows.boxes(filter, part),
        end: (part) => rows.boxesEnd(filter, part),
      };
      return lists.send(async () => source, pageOf(page), request, reply);
    },

    getBox: async ({ request, reply, path }) => {
      const box = await answers.get(`box ${path.box}`, async () => rowAnswer(await rows.boxJson(path.box)));
      return sendAnswer(box ?? raiseNoBox(path.box), request, reply);
    },

    boxStats: async ({ request, path }) => supervisor.request('boxStats', path, { requestId: request.id }),

    updateBox: async ({ request, reply, path, body: readBody }) => {
      const body = readBody();
      checkName(body.name);
      const options = { requestId: request.id };
      return whileProcessing(reply, supervisor.request('updateBox', { ...path, body }, options));
    },

    startBox: async ({ request, reply, path }) =>
      answerStarted(reply, () => supervisor.request('startBox', path, { requestId: request.id })),

    restartBox: async ({ request, reply, path, body }) => {
      const params = { ...path, ...graceOf(body()) };
      return answerStarted(reply, () => supervisor.request('restartBox', params, { requestId: request.id }));
    },

    stopBox: async ({ request, reply, path, body }) => {
      const params = { ...path, ...graceOf(body()) };
      const box = await whileProcessing(reply, supervisor.request('stopBox', params, { requestId: request.id }));
      faultPoint('gateway.stop.answering');
      return box;
    },

    removeBox: async ({ request, reply, path, query }) => {
      const { force, ...rest } = query();
      const params = { ...path, force: force === 'true' || force === '1', ...graceOf(rest) };
      await whileProcessing(reply, supervisor.request('removeBox', params, { requestId: request.id }));
      faultPoint('gateway.remove.answering');
      return { ok: true };
    },

    collectGarbage: async ({ request, reply, body }) => {
      const { older_than: olderThanS } = body();
      return whileProcessing(reply, supervisor.request('collectGarbage', { olderThanS }, { requestId: request.id }));
    },
  };
}

/** Waits until `start` has started the box, and answers with the times of the stages. */
async function answerStarted(reply: FastifyReply, start: () => Promise<TimedBox>): Promise<Box> {
  const stopwatch = createStopwatch();
  const box = await whileProcessing(reply, stopwatch.time('supervisor', start));
  faultPoint('gateway.start.answering');
  return withServerTiming(reply, stopwatch.times, box);
}

function graceOf({ grace_s: graceS }: StopBody): { graceMs?: number } {
  return graceS === undefined ? {} : { graceMs: Math.round(graceS * 1000) };
}

type CreateParams = ParamsOf<SupervisorContract, 'createBox'>;
type TimedBox = ResultOf<SupervisorContract, 'startBox'>;

function createParams(request: FastifyRequest, body: CreateBoxBody): CreateParams {
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
): Promise<FastifyReply> {
  return answerWithEvents(parts, { request, reply, name: 'a create', onError: 'last-event' }, async (stream) => {
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
