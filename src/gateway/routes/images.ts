// The route for images: those that this host knows by name, and the short names of images in registries. The dashboard
// suggests them in its form.
import type { FastifyInstance } from 'fastify';
import type { Images } from '../../shared/api.ts';
import { baseImageName } from '../../shared/images/base.ts';
import { imageAliases } from '../../shared/images/source.ts';
import { listImages } from '../../shared/images/store.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import type { GatewayParts } from '../parts.ts';

export function addImageRoutes(app: FastifyInstance, { config }: Pick<GatewayParts, 'config'>): void {
  app.get('/v1/images', async (): Promise<Images> => {
    const images = await listImages(statePaths(config.stateDir).imagesDir);
    return {
      images: [
        ...images.map(({ name, bytes, digest, importedAt }) => ({ name, bytes, digest, imported_at: importedAt })),
        { name: baseImageName, bytes: null, digest: null, imported_at: null },
      ],
      aliases: imageAliases,
    };
  });
}
