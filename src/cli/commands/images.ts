// The command images: lists, imports and removes images on this host, for hosts that cannot reach a registry. It works
// on the state directory, without a server. The name of an imported image wins over a short name or a registry.
import { jsonOption } from '../parsing/box-options.ts';
import { resolveHere } from '../parsing/options.ts';
import { defineCommand } from '../parsing/command.ts';
import { printJson, printLines, renderAge, renderBytes, renderTable } from '../render/render.ts';
import { loadConfig } from '../../shared/settings/config.ts';
import { makeStateDirectories, statePaths } from '../../shared/settings/state-dir.ts';

const listOptions = { quiet: { type: 'flag', alias: 'q', describe: 'print names only' }, json: jsonOption } as const;

async function list({ quiet, json }: { readonly quiet: boolean; readonly json: boolean }): Promise<number> {
  const { imageAliases, listImages } = await import('../heavy.ts');
  const images = await listImages(imagesDir());
  if (json) {
    const imported = images.map(({ name, bytes, digest, importedAt }) => ({
      name,
      bytes,
      digest,
      imported_at: importedAt,
    }));
    printJson({
      images: [...imported, { name: 'base', bytes: null, digest: null, imported_at: null }],
      aliases: imageAliases,
    });
    return 0;
  }
  if (quiet) {
    printLines(...images.map(({ name }) => name), 'base');
    return 0;
  }
  const rows = images.map(({ name, bytes, digest, importedAt }) => [
    name,
    renderBytes(bytes),
    digest.slice(0, 19),
    renderAge(importedAt, Date.now()),
  ]);
  process.stdout.write(renderTable(['NAME', 'SIZE', 'DIGEST', 'IMPORTED'], [...rows, ['base', '-', 'built in', '-']]));
  const aliases = Object.entries(imageAliases).map(([name, reference]) => [name, reference]);
  process.stdout.write(`\n${renderTable(['ALIAS', 'IMAGE'], aliases)}`);
  return 0;
}

const listCommand = defineCommand({
  name: 'list',
  aliases: ['ls'],
  describe: 'list imported images, and short names of images in registries',
  options: listOptions,
  examples: [['images list', 'the same as boxrun images']],
  run: list,
});

const importCommand = defineCommand({
  name: 'import',
  describe: 'import an OCI layout (directory or tar), a docker-save tar, or a root file system tar',
  positionals: {
    name: { describe: 'name for the image', required: true },
    path: { describe: 'file or directory', required: true, kind: 'file' },
  },
  options: { json: jsonOption },
  examples: [['images import tools ./rootfs.tar', 'then: boxrun create tools']],
  async run({ name, path, json }) {
    const { importImage } = await import('../heavy.ts');
    const image = await importImage(imagesDir(), name, resolveHere(path));
    for (const warning of image.warnings) process.stderr.write(`Warning: ${warning}\n`);
    if (json) printJson({ name: image.name, digest: image.digest, warnings: image.warnings });
    else printLines(`Imported: ${image.name}`, `Digest: ${image.digest}`);
    return 0;
  },
});

const removeCommand = defineCommand({
  name: 'rm',
  describe: 'remove an imported image; boxes made from it keep their disks',
  positionals: { name: { describe: 'name of the image', required: true, kind: 'image' } },
  options: { json: jsonOption },
  examples: [['images rm tools', 'after that, the name tools means an image in a registry']],
  run: remove,
});

async function remove({ name, json }: { readonly name: string; readonly json: boolean }): Promise<number> {
  const { removeImage } = await import('../heavy.ts');
  await removeImage(imagesDir(), name);
  if (json) printJson({ removed: name });
  else printLines(`Removed: ${name}`);
  return 0;
}

export const removeImageCommand = defineCommand({
  name: 'rmi',
  describe: 'remove an imported image, as boxrun images rm does',
  positionals: { name: { describe: 'name of the image', required: true, kind: 'image' } },
  options: { json: jsonOption },
  hints: { '-f': 'leave it out: boxes keep their disks' },
  examples: [['rmi tools', 'the same as boxrun images rm tools']],
  run: remove,
});

export const imagesCommand = defineCommand({
  name: 'images',
  aliases: ['image'],
  describe: 'list, import and remove images on this host',
  options: listOptions,
  examples: [
    ['images', 'the images on this host'],
    ['images import tools ./rootfs.tar', 'then: boxrun create tools'],
  ],
  subcommands: [listCommand, importCommand, removeCommand],
  run: list,
});

function imagesDir(): string {
  const { stateDir } = loadConfig();
  makeStateDirectories(stateDir);
  return statePaths(stateDir).imagesDir;
}
