// The image names that a box can be made from on this host: built in, imported, and short names of registry images.
// It reads directories only, and asks no server.
import { type Config } from '../../shared/settings/config.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import { imageAliases } from '../../shared/images/source.ts';
import { listImages } from '../../shared/images/store.ts';

export async function imageNames({ stateDir }: Config): Promise<string[]> {
  const imported = await listImages(statePaths(stateDir).imagesDir);
  return [...new Set(['base', ...imported.map(({ name }) => name), ...Object.keys(imageAliases)])];
}
