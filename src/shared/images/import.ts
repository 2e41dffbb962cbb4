// Imports images. OCI layouts (directory or tar), docker-save archives and tars of root file systems become OCI layouts
// below the images directory, which both drivers can read. An import succeeds completely or changes nothing. A new
// import under the same name replaces the old one.
import { mkdir, rm, stat, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createGzip } from 'node:zlib';
import { runTool } from '../process/child-process.ts';
import { BoxRunError, errorText } from '../errors.ts';
import { limits } from '../limits.ts';
import { classifyArchive, createRootfsCheck, extractLayout, notAnImage, openArchive } from './archive.ts';
import { imagePaths, installLayout } from './layouts.ts';
import { beginLayout, copyLayout, createMeter, finishLayout, layerTypes, writeBlobFrom } from './oci-layout.ts';
import { makeLayoutPlain } from './plain-layers.ts';
import { localName } from './reference.ts';
import { listImages, type ImportedImage } from './store.ts';
import { tryUnpack } from './trial-unpack.ts';

const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Imports the file or directory at `path` as the image `name`.
 * @returns the image, and warnings for the user
 * @throws VALIDATION_ERROR if the name is wrong, the path is missing, there is no image at the path, or no box can use
 *   the image (another architecture, damaged, files that cannot be unpacked); RUNTIME_ERROR if a tool is missing
 */
export async function importImage(
  imagesDir: string,
  name: string,
  path: string,
): Promise<ImportedImage & { readonly warnings: readonly string[] }> {
  const canonical = localName(name);
  const file = await stat(path).catch(() => null);
  if (file === null) throw new BoxRunError('VALIDATION_ERROR', `${path} does not exist`);
  if (!file.isDirectory() && !file.isFile())
    throw new BoxRunError('VALIDATION_ERROR', `${path} is neither file nor directory`);
  const target = imagePaths(imagesDir).layout(canonical);
  const warnings: string[] = [];
  await installLayout(imagesDir, target, { replace: true }, async (dir) => {
    if (file.isDirectory()) await importDirectory(path, dir);
    else await importFile(path, dir);
    warnings.push(...(await makeLayoutPlain(dir)));
    await tryUnpack(dir);
  });
  const imported = (await listImages(imagesDir)).find((image) => image.name === canonical);
  if (imported === undefined)
    throw new BoxRunError('RUNTIME_ERROR', `'${canonical}' was removed while it was imported`);
  return { ...imported, warnings };
}

async function importDirectory(path: string, dir: string): Promise<void> {
  if ((await stat(join(path, 'index.json')).catch(() => null)) === null) {
    throw new BoxRunError('VALIDATION_ERROR', `${path} is a directory, but not an OCI layout: it has no index.json`, {
      hint: 'a root file system is imported as a tar: tar -C DIR -cf rootfs.tar .',
    });
  }
  await copyLayout(path, dir);
}

async function importFile(path: string, dir: string): Promise<void> {
  switch (await classifyArchive(path)) {
    case 'oci':
      return importOciArchive(path, dir);
    case 'docker':
      return importDockerArchive(path, dir);
    case 'rootfs':
      return importRootfs(path, dir);
  }
}

async function importOciArchive(path: string, dir: string): Promise<void> {
  const extracted = join(dir, 'extracted');
  await mkdir(extracted);
  await extractLayout(path, extracted);
  await copyLayout(extracted, dir);
  await rm(extracted, { recursive: true });
}

async function importDockerArchive(path: string, dir: string): Promise<void> {
  // skopeo reads the text after a colon as a tag, so it gets a link whose name has no colon.
  const plain = join(dir, 'archive.tar');
  await symlink(path, plain);
  const converted = join(dir, 'converted');
  const result = await runTool('skopeo', ['copy', '--quiet', 'docker-archive:archive.tar', 'oci:converted:latest'], {
    timeoutMs: limits.imagePrepareTimeoutMs,
    cwd: dir,
  });
  if (result.exitCode === 127) {
    throw new BoxRunError(
      'RUNTIME_ERROR',
      'a docker-save archive is converted with skopeo, which is not on this host',
      {
        hint: 'install the package skopeo (apt install skopeo)',
      },
    );
  }
  if (result.exitCode !== 0)
    throw notAnImage(path, new Error(result.stderr.trim().split('\n').pop() ?? 'skopeo refused it'));
  await copyLayout(converted, dir);
  await rm(converted, { recursive: true });
  await rm(plain);
}

async function importRootfs(path: string, dir: string): Promise<void> {
  await beginLayout(dir);
  const plain = createMeter();
  // Level 1 is fast. The layer is written once and read once, so its size matters less.
  const stages = [createRootfsCheck(), plain.stream, createGzip({ level: 1 })];
  try {
    const layer = await writeBlobFrom(dir, layerTypes.gzip, stages, await openArchive(path));
    await finishLayout(dir, [layer], [`sha256:${plain.hash.digest('hex')}`], [`PATH=${defaultPath}`]);
  } catch (error) {
    if (error instanceof BoxRunError) throw error;
    throw new BoxRunError('VALIDATION_ERROR', `${path} cannot be imported: ${errorText(error)}`);
  }
}
