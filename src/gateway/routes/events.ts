// The operation for state events: changes of boxes and commands as server-sent events. A client lists once, follows
// this stream, and does not have to poll. The id of an event is a position: a client that connects again continues
// after its last id, or gets `reset` and must list again.
import { Type } from 'typebox';
import { limits } from '../../shared/limits.ts';
import type { GatewayParts } from '../parts.ts';
import { answerWithEvents, sendBatches } from '../live/event-answer.ts';
import { encodeMessages } from '../live/sse.ts';
import { eventStream, type Operations } from '../openapi/operation.ts';
import type { HandlersOf } from './handler.ts';

export const eventOperations = {
  watch: {
    method: 'get',
    path: '/v1/events',
    summary: 'Changes of boxes and commands as they happen, as server-sent events',
    query: Type.Object({ since: Type.Optional(Type.String({ maxLength: limits.stateIdLengthMax })) }),
    headers: ['Last-Event-ID'],
    answers: {
      200: eventStream(
        'First ready, if the request names no id, or reset, if the id is too old: list everything again. Then ' +
          'box.created, box.changed and box.removed with a BoxState, exec.started and exec.finished with an ExecState',
      ),
    },
    head: 'by-handler',
  },
} as const satisfies Operations;

export function createEventHandlers({ states, ...parts }: GatewayParts): HandlersOf<typeof eventOperations> {
  return {
    watch: async ({ request, reply, query }) => {
      const { since = '' } = query();
      const header = request.headers['last-event-id'];
      const id = typeof header === 'string' && header !== '' ? header : since;
      const name = 'a stream of state events';
      return answerWithEvents(parts, { request, reply, name, onError: 'come-again' }, (stream) =>
        sendBatches(stream, states.read(id === '' ? null : id, stream.ended), encodeMessages),
      );
    },
  };
}
