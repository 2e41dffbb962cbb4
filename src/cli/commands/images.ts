// images: what is imported on this host, and importing more of it, for hosts without a registry. Works on the state directory
// itself, so it needs no server; boxes find an imported image by its name, before any alias or registry.
import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { loadConfig, stateDirectories, statePaths } from '../../shared/config.ts';
import { importImage } from '../../shared/images/import.ts';
import { imageAliases } from '../../shared/images/source.ts';
import { listImages, removeImage } from '../../shared/images/store.ts';
import { refuseCommand, type CommandContext, type Parser } from '../context.ts';
import { renderAge, renderBytes, renderTable } from '../render.ts';

export function addImageCommands(parser: Parser, context: CommandContext): void {
  parser.command('images', 'list, import and remove images on this host', (command) => {
    addList(command, context);
    addImport(command, context);
    addRemove(command, context);
    return command.example('$0 images import tools ./tools.tar', 'then: boxrun create tools');
  }, () => undefined);
}

function addList(parser: Parser, context: CommandContext): void {
  parser.command(
    ['list', '$0'],
    'list imported images and the short names of others',
    (command) => command.example('$0 images list', 'what is here'),
    context.run(async () => {
      refuseCommand(context);
      const images = await listImages(imagesDir());
      const imported = images.map(({ name, bytes, digest, importedAt }) => [
        name, renderBytes(bytes), digest.slice(0, 19), renderAge(importedAt, Date.now()),
      ]);
      process.stdout.write(renderTable(['NAME', 'SIZE', 'DIGEST', 'IMPORTED'], [...imported, ['base', '-', 'built in', '-']]));
      const aliases = Object.entries(imageAliases).map(([name, reference]) => [name, reference]);
      process.stdout.write(`\n${renderTable(['ALIAS', 'IMAGE'], aliases)}`);
      return 0;
    }),
  );
}

function addImport(parser: Parser, context: CommandContext): void {
  parser.command(
    'import <name> <path>',
    'import an OCI layout (directory or tar), a docker-save tar, or a root file system tar',
    (command) =>
      command
        .positional('name', { type: 'string', demandOption: true, describe: 'what to call it' })
        .positional('path', { type: 'string', demandOption: true, describe: 'file or directory' })
        .example('$0 images import debian ./rootfs.tar', 'then: boxrun create debian'),
    context.run(async ({ name, path }) => {
      refuseCommand(context);
      const image = await importImage(imagesDir(), name, resolve(path));
      process.stdout.write(`Imported: ${image.name}\nDigest: ${image.digest}\n`);
      return 0;
    }),
  );
}

function addRemove(parser: Parser, context: CommandContext): void {
  parser.command(
    'rm <name>',
    'remove an imported image; boxes made from it keep their disks',
    (command) =>
      command
        .positional('name', { type: 'string', demandOption: true, describe: 'its name' })
        .example('$0 images rm debian', 'the name means a registry again'),
    context.run(async ({ name }) => {
      refuseCommand(context);
      await removeImage(imagesDir(), name);
      process.stdout.write(`Removed: ${name}\n`);
      return 0;
    }),
  );
}

function imagesDir(): string {
  const { stateDir } = loadConfig();
  for (const directory of stateDirectories(stateDir)) mkdirSync(directory, { recursive: true, mode: 0o700 });
  return statePaths(stateDir).imagesDir;
}
