// The commands images, pull and rmi: list, import, pull and remove images. If a server runs, it is asked; else list and
// remove work on the state directory, so that a host needs no server for them. An import always works on the directory.
import { isClientOnly } from '../client-only.ts';
import { formatOption, jsonOption, noTruncOption } from '../parsing/box-options.ts';
import { listFormOf } from '../parsing/format.ts';
import { resolveHere } from '../parsing/options.ts';
import { defineCommand, type CommandContext } from '../parsing/command.ts';
import { printList } from '../render/list-output.ts';
import { printJson, printLines, renderAge, renderBytes, renderTable } from '../render/render.ts';
import type { BoxRunClient, Images } from '../../sdk/index.ts';
import { loadConfig } from '../../shared/settings/config.ts';
import { makeStateDirectories, statePaths } from '../../shared/settings/state-dir.ts';

const listOptions = {
  'no-trunc': noTruncOption,
  format: formatOption,
  quiet: { type: 'flag', alias: 'q', describe: 'print names only' },
  json: jsonOption,
} as const;

interface ListValues {
  readonly 'no-trunc': boolean;
  readonly format: string | undefined;
  readonly quiet: boolean;
  readonly json: boolean;
}

async function list({ quiet, json, format, 'no-trunc': isWhole }: ListValues): Promise<number> {
  const form = listFormOf({ json, quiet, format });
  const { images, aliases } = await imagesHere();
  if (json) {
    printJson({ images, aliases });
    return 0;
  }
  const options = isWhole ? { widthMax: Infinity } : {};
  const rows = images.map(({ name, bytes, digest, imported_at: importedAt }) => [
    name,
    bytes === null ? '-' : renderBytes(bytes),
    digest === null ? 'built in' : isWhole ? digest : digest.slice(0, 19),
    importedAt === null ? '-' : renderAge(importedAt, Date.now()),
  ]);
  printList(images, form, {
    idOf: ({ name }) => name,
    table: () =>
      `${renderTable(['NAME', 'SIZE', 'DIGEST', 'IMPORTED'], rows, options)}\n` +
      renderTable(['ALIAS', 'IMAGE'], Object.entries(aliases), options),
  });
  return 0;
}

async function imagesHere(): Promise<Images> {
  const images = await withServer((client) => client.images());
  return images ?? (await import('../heavy.ts')).knownImages(imagesDir());
}

/** The result of `work`. Null if no server runs; then it is not started. */
async function withServer<T>(work: (client: BoxRunClient) => Promise<T>): Promise<T | null> {
  const { isServerUp, withRunningServer } = await import('../server/running-server.ts');
  if (!isClientOnly && !(await isServerUp())) return null;
  let result: T | null = null;
  await withRunningServer(async (client) => {
    result = await work(client);
    return 0;
  });
  return result;
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
  const isRemoved = await withServer(async (client) => {
    await client.removeImage(name);
    return true;
  });
  if (isRemoved === null) await (await import('../heavy.ts')).removeImage(imagesDir(), name);
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

/** Of `pull` and `images pull`. */
const pull = {
  describe: 'pull an image from its registry, so that the next box does not wait for it',
  positionals: { image: { describe: 'short name, or reference to a registry', required: true, kind: 'image' } },
  options: { quiet: { type: 'flag', alias: 'q', describe: 'show no progress' }, json: jsonOption },
  hints: { '-a': 'name one image and its tag, as in: boxrun pull alpine:3.20' },
} as const;

async function runPull(
  { image, quiet, json }: { readonly image: string; readonly quiet: boolean; readonly json: boolean },
  { interrupts, withClient }: CommandContext,
): Promise<number> {
  return withClient(async (client) => {
    const interrupt = interrupts.catch();
    const { signal } = interrupt;
    const { createPullNotice } = await import('../render/waiting.ts');
    const notice = createPullNotice(image, quiet);
    try {
      const pulled = await client.pullImage(image, { signal, onProgress: notice.onProgress });
      notice.end();
      if (json) printJson(pulled);
      else printLines(`Ready: ${pulled.image}`);
      return 0;
    } catch (error) {
      if (!signal.aborted) throw error;
      notice.end();
      if (!interrupt.isQuiet()) process.stderr.write('\nboxrun: canceled; the pull has ended\n');
      return interrupt.exitCode();
    } finally {
      notice.end();
      interrupt.release();
    }
  });
}

export const pullCommand = defineCommand({
  name: 'pull',
  ...pull,
  examples: [['pull alpine', 'the short name stands for alpine:3.20']],
  run: runPull,
});

const pullSubcommand = defineCommand({
  name: 'pull',
  ...pull,
  examples: [['images pull alpine', 'the same as boxrun pull alpine']],
  run: runPull,
});

export const imagesCommand = defineCommand({
  name: 'images',
  aliases: ['image'],
  describe: 'list, import, pull and remove images',
  options: listOptions,
  examples: [
    ['images', 'the images on this host'],
    ['images import tools ./rootfs.tar', 'then: boxrun create tools'],
  ],
  // An import works on the state directory of a server on this host.
  subcommands: [listCommand, ...(isClientOnly ? [] : [importCommand]), pullSubcommand, removeCommand],
  run: list,
});

function imagesDir(): string {
  const { stateDir } = loadConfig();
  makeStateDirectories(stateDir);
  return statePaths(stateDir).imagesDir;
}
