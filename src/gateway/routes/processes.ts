// The operations for the processes of a box: list them, and send a signal to one of them.
// The worker asks the box, so the list is what programs in the box would see.
import { Type } from 'typebox';
import { BoxProcess, SignalBody } from '../../shared/api.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { whileProcessing } from '../http/long-answer.ts';
import { signalNumber } from '../http/signal-number.ts';
import { boxErrors, json, Ok, type Operations } from '../openapi/operation.ts';
import type { GatewayParts } from '../parts.ts';
import type { HandlersOf } from './handler.ts';

export const processOperations = {
  listProcesses: {
    method: 'get',
    path: '/v1/boxes/{box}/processes',
    summary: 'The processes in a running box, without those of BoxRun itself',
    answers: { 200: json('The processes, by pid', Type.Array(BoxProcess)) },
    errors: [...boxErrors, 'BOX_NOT_RUNNING', 'RUNTIME_ERROR'],
  },
  signalProcess: {
    method: 'post',
    path: '/v1/boxes/{box}/processes/{pid}:signal',
    summary: 'Send a signal to one process of a box, such as INT or 2',
    body: { schema: SignalBody, required: true },
    example: { body: { signal: 'HUP' } },
    answers: { 200: json('The signal was sent', Ok) },
    errors: [...boxErrors, 'BOX_NOT_RUNNING', 'RUNTIME_ERROR'],
  },
} as const satisfies Operations;

export function createProcessHandlers({ supervisor }: GatewayParts): HandlersOf<typeof processOperations> {
  return {
    listProcesses: async ({ request, reply, path }) =>
      whileProcessing(reply, supervisor.request('boxProcesses', path, { requestId: request.id })),

    signalProcess: async ({ request, reply, path, body }) => {
      const params = { box: path.box, pid: pidOf(path.pid), signal: signalNumber(body().signal) };
      await whileProcessing(reply, supervisor.request('signalProcess', params, { requestId: request.id }));
      return { ok: true };
    },
  };
}

function pidOf(text: string): number {
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text);
  throw new BoxRunError('VALIDATION_ERROR', `'${text}' is not the pid of a process`, {
    hint: 'GET /v1/boxes/{box}/processes lists them',
  });
}
