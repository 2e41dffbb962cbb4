// The operation for images: those that this host knows by name, and the short names of images in registries. The
// dashboard suggests them in its form.
import { Images } from '../../shared/api.ts';
import { baseImageName } from '../../shared/images/base.ts';
import { imageAliases } from '../../shared/images/source.ts';
import { listImages } from '../../shared/images/store.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import type { GatewayParts } from '../parts.ts';
import { json, type Operations } from '../openapi/operation.ts';
import type { HandlersOf } from './handler.ts';

export const imageOperations = {
  images: {
    method: 'get',
    path: '/v1/images',
    summary: 'Images that this host knows by name',
    answers: { 200: json('Images', Images) },
  },
} as const satisfies Operations;

export function createImageHandlers({ config }: Pick<GatewayParts, 'config'>): HandlersOf<typeof imageOperations> {
  return {
    images: async () => {
      const images = await listImages(statePaths(config.stateDir).imagesDir);
      return {
        images: [
          ...images.map(({ name, bytes, digest, importedAt }) => ({ name, bytes, digest, imported_at: importedAt })),
          { name: baseImageName, bytes: null, digest: null, imported_at: null },
        ],
        aliases: imageAliases,
      };
    },
  };
}
