// The routes for images: the list of those that this host knows by name, the pull of one, and the removal of an
// imported one. The dashboard suggests the listed ones in its form.
import type { FastifyInstance } from 'fastify';
import { PullBody, type Images, type PullResult } from '../../shared/api.ts';
import { knownImages, removeImage } from '../../shared/images/store.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import { createBodyParse } from '../http/body.ts';
import { whileProcessing } from '../http/long-answer.ts';
import { answerWithEvents } from '../live/event-answer.ts';
import { acceptsStream, encodeNotice } from '../live/sse.ts';
import type { GatewayParts } from '../parts.ts';

const parsePull = createBodyParse(PullBody);

export function addImageRoutes(app: FastifyInstance, parts: GatewayParts): void {
  const { config, supervisor } = parts;
  const { imagesDir } = statePaths(config.stateDir);

  app.get('/v1/images', async (): Promise<Images> => knownImages(imagesDir));

  // Nobody needs the pull any more when its client is gone, so it ends then.
  app.post('/v1/images', async (request, reply): Promise<PullResult | undefined> => {
    const { image } = parsePull(request, reply);
    const gone = new AbortController();
    reply.raw.once('close', () => {
      gone.abort();
    });
    const options = { requestId: request.id, signal: gone.signal };
    if (!acceptsStream(request)) return whileProcessing(reply, supervisor.request('pullImage', { image }, options));
    await answerWithEvents(parts, { request, reply, name: 'a pull', onError: 'last-event' }, async (stream) => {
      const onProgress = (stage: string, message: string) => {
        stream.offer(encodeNotice('progress', { stage, message }));
      };
      const pulled = await supervisor.request('pullImage', { image }, { ...options, onProgress });
      await stream.write(encodeNotice('image', pulled));
    });
    return undefined;
  });

  app.delete<{ Params: { image: string } }>('/v1/images/:image', async ({ params }) => {
    await removeImage(imagesDir, params.image);
    return { ok: true };
  });
}
