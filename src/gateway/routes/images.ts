// The operations for images: the list of those that this host knows by name, the pull of one, and the removal of an
// imported one. The dashboard suggests the listed ones in its form.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Images, PullBody, PullResult } from '../../shared/api.ts';
import { knownImages, removeImage } from '../../shared/images/store.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import { whileProcessing } from '../http/long-answer.ts';
import { answerWithEvents } from '../live/event-answer.ts';
import { acceptsStream, encodeNotice } from '../live/sse.ts';
import { json, Ok, text, type Operations } from '../openapi/operation.ts';
import type { GatewayParts } from '../parts.ts';
import type { HandlersOf } from './handler.ts';

export const imageOperations = {
  images: {
    method: 'get',
    path: '/v1/images',
    summary: 'Images that this host knows by name',
    answers: { 200: json('Images', Images) },
  },
  pullImage: {
    method: 'post',
    path: '/v1/images',
    summary: 'Pull an image, so that the next box does not wait for it',
    body: { schema: PullBody, required: true },
    example: { body: { image: 'alpine:3.20' } },
    answers: {
      200: {
        description: 'The image is ready. With Accept: text/event-stream, its progress, then the event image, or error',
        content: { 'application/json': PullResult, 'text/event-stream': text },
      },
    },
    errors: ['IMAGE_PULL_FAILED', 'RESOURCE_EXCEEDED'],
  },
  removeImage: {
    method: 'delete',
    path: '/v1/images/{image}',
    summary: 'Remove an imported image; boxes made from it keep their disks',
    answers: { 200: json('The image is removed', Ok) },
    errors: ['NOT_FOUND'],
  },
} as const satisfies Operations;

export function createImageHandlers(parts: GatewayParts): HandlersOf<typeof imageOperations> {
  const { supervisor } = parts;
  const { imagesDir } = statePaths(parts.config.stateDir);
  return {
    images: async () => knownImages(imagesDir),

    pullImage: async ({ request, reply, body }) => {
      const { image } = body();
      const options = { requestId: request.id, signal: signalOfGone(reply) };
      if (acceptsStream(request)) return streamPull(parts, image, options, { request, reply });
      return whileProcessing(reply, supervisor.request('pullImage', { image }, options));
    },

    removeImage: async ({ path: { image } }) => {
      await removeImage(imagesDir, image);
      return { ok: true };
    },
  };
}

/** Aborts when the client has gone. Then the pull ends. No other request shares it: each one makes its own pull. */
function signalOfGone(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once('close', () => {
    gone.abort();
  });
  return gone.signal;
}

async function streamPull(
  parts: GatewayParts,
  image: string,
  options: { readonly requestId: string; readonly signal: AbortSignal },
  call: { readonly request: FastifyRequest; readonly reply: FastifyReply },
): Promise<FastifyReply> {
  return answerWithEvents(parts, { ...call, name: 'a pull', onError: 'last-event' }, async (stream) => {
    const onProgress = (stage: string, message: string) => {
      stream.offer(encodeNotice('progress', { stage, message }));
    };
    const pulled = await parts.supervisor.request('pullImage', { image }, { ...options, onProgress });
    await stream.write(encodeNotice('image', pulled));
  });
}
