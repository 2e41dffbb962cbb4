// Tests the import of real image files in every form, and the image store: how it resolves names, and what a killed
// import leaves behind. No engine runs here.
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { ensureBaseImage } from '../../src/shared/images/base.ts';
import { importImage } from '../../src/shared/images/import.ts';
import { readLayout } from '../../src/shared/images/oci-layout.ts';
import { listImages, removeImage, resolveImage } from '../../src/shared/images/store.ts';
import { temporaryDir } from '../support/boxes/driver-harness.ts';
import { makeLayout, makeSampleTars, tool, writeIndex, type SampleImage } from '../support/boxes/image-files.ts';

let dir = '';
let imagesDir = '';
let sample: SampleImage;
let layout = '';
let count = 0;

beforeAll(async () => {
  dir = await temporaryDir('images');
  sample = await makeSampleTars(dir);
  layout = await makeLayout(join(dir, 'layout'), sample.rootfsTar);
});
beforeEach(() => {
  imagesDir = join(dir, `images-${(count += 1)}`);
});
afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

/** Lists the files in the image's only layer. */
function layerFiles(layoutDir: string, digest: string): string {
  const path = join(layoutDir, 'blobs', 'sha256', digest.replace('sha256:', ''));
  return tool('tar', ['-tf', path]);
}

async function expectImported(name: string, path: string): Promise<void> {
  const imported = await importImage(imagesDir, name, path);
  const source = await resolveImage(imagesDir, name);
  if (source.kind !== 'layout') throw new Error('not imported');
  expect(source.digest).toBe(imported.digest);
  const image = await readLayout(source.layoutDir);
  expect(image.digest).toBe(imported.digest);
  expect(layerFiles(source.layoutDir, image.manifest.layers[0]?.digest ?? '')).toContain('etc/marker');
  // skopeo checks every digest and media type while it copies.
  tool('skopeo', ['copy', '--quiet', `oci:${source.layoutDir}:latest`, `dir:${join(dir, `check-${(count += 1)}`)}`]);
}

describe('an import accepts', () => {
  test('a plain root file system tar', () => expectImported('one', sample.rootfsTar));

  test.each([
    ['gzip', ['-k', '-c']],
    ['xz', ['-1', '-k', '-c']],
    ['zstd', ['-q', '-c']],
  ] as const)('a root file system tar compressed with %s, whatever its name', async (command, args) => {
    const path = join(dir, `compressed-${command}`);
    tool('sh', ['-c', `${command} ${args.join(' ')} "$1" > "$2"`, 'sh', sample.rootfsTar, path]);
    await expectImported('one', path);
  });

  test('an OCI layout directory', () => expectImported('one', layout));

  test('an OCI layout tar, also a compressed one', async () => {
    const path = join(dir, 'layout.tar');
    tool('tar', ['-C', layout, '-cf', path, '.']);
    await expectImported('one', path);
    tool('gzip', ['-k', '-f', path]);
    await expectImported('two', `${path}.gz`);
  });

  test('an archive as `docker save` writes it, from a path with a colon and a space', async () => {
    const path = join(dir, 'docker: save.tar');
    tool('skopeo', ['copy', '--quiet', `oci:${layout}:latest`, 'docker-archive:saved.tar:sample:1'], { cwd: dir });
    renameSync(join(dir, 'saved.tar'), path);
    await expectImported('one', path);
  });

  test('an index with several images, and takes the image for this host, not an attestation', async () => {
    const many = await makeLayout(join(dir, 'many'), sample.rootfsTar);
    const own = (await readLayout(many)).digest;
    await makeLayout(many, sample.rootfsTar, { architecture: 'riscv64' });
    const other = JSON.parse(readFileSync(join(many, 'index.json'), 'utf8')) as {
      manifests: [{ digest: string; size: number }];
    };
    const type = 'application/vnd.oci.image.manifest.v1+json';
    writeIndex(many, [
      {
        mediaType: type,
        digest: other.manifests[0].digest,
        size: other.manifests[0].size,
        platform: { architecture: 'unknown', os: 'unknown' },
      },
      { mediaType: type, digest: other.manifests[0].digest, size: other.manifests[0].size },
      { mediaType: type, digest: own, size: 0 },
    ]);
    expect((await importImage(imagesDir, 'one', many)).digest).toBe(own);
  });

  test('a name that exists, and replaces the old image', async () => {
    await importImage(imagesDir, 'one', sample.scratchTar);
    await expectImported('one:latest', sample.rootfsTar);
    expect((await listImages(imagesDir)).map((image) => image.name)).toEqual(['one:latest']);
  });
});

describe('an import refuses', () => {
  async function refused(path: string, message: string | RegExp, name = 'bad'): Promise<void> {
    await expect(importImage(imagesDir, name, path)).rejects.toMatchObject({
      code: 'VALIDATION_ERROR',
      message: expect.stringMatching(message) as unknown,
    });
    const layouts = join(imagesDir, 'layouts');
    expect(existsSync(layouts) ? readdirSync(layouts) : []).toEqual([]);
  }

  test('a path that does not exist', () => refused(join(dir, 'nowhere'), 'does not exist'));
  test('an invalid name', () => refused(sample.rootfsTar, 'cannot be the name', '../escape'));
  test('a device', () => refused('/dev/null', 'neither file nor directory'));

  test('a file that is not an archive, is empty or is truncated', async () => {
    const path = join(dir, 'text');
    writeFileSync(path, 'this is not an image\n'.repeat(100));
    await refused(path, 'not an image');
    writeFileSync(path, '');
    await refused(path, 'empty');
    writeFileSync(path, readFileSync(sample.rootfsTar).subarray(0, 100_000));
    await refused(path, 'ends too early|damaged');
    writeFileSync(path, Buffer.concat([Buffer.from('1f8b0800', 'hex'), Buffer.alloc(100, 7)]));
    await refused(path, 'not an image');
  });

  test('a directory that is not an OCI layout', () => refused(join(dir, 'tree'), 'not an OCI layout'));

  test.each(['4294967295', '65536', 'ana:4294967295'])(
    'an image whose user is %s, because ids in a box end at 65535',
    async (User) => {
      const odd = await makeLayout(join(dir, `user-${User.replace(':', '-')}`), sample.rootfsTar, { config: { User } });
      await refused(odd, 'ids in a box are 0 to 65535');
    },
  );

  test('an image for another architecture', async () => {
    const foreign = await makeLayout(join(dir, 'foreign'), sample.rootfsTar, { architecture: 'riscv64' });
    await refused(foreign, 'is for linux on riscv64');
  });

  test('a layout with a blob that was changed', async () => {
    const damaged = await makeLayout(join(dir, 'damaged'), sample.scratchTar);
    const { manifest } = await readLayout(damaged);
    const blob = join(damaged, 'blobs', 'sha256', (manifest.layers[0]?.digest ?? '').replace('sha256:', ''));
    writeFileSync(blob, readFileSync(blob).fill(0, 600, 700));
    await refused(damaged, 'damaged');
  });
});

describe('the image store', () => {
  test('prefers an imported image to an alias and to the target of an alias', async () => {
    expect(await resolveImage(imagesDir, 'alpine')).toEqual({ kind: 'registry', reference: 'alpine:3.20' });
    await importImage(imagesDir, 'alpine:3.20', sample.rootfsTar);
    expect(await resolveImage(imagesDir, 'alpine')).toMatchObject({ kind: 'layout', name: 'alpine:3.20' });
    await importImage(imagesDir, 'alpine', sample.scratchTar);
    expect(await resolveImage(imagesDir, 'alpine')).toMatchObject({ kind: 'layout', name: 'alpine:latest' });
    await removeImage(imagesDir, 'alpine');
    await removeImage(imagesDir, 'alpine:3.20');
    await expect(removeImage(imagesDir, 'alpine')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await resolveImage(imagesDir, 'alpine')).toMatchObject({ kind: 'registry' });
  });

  test('has `base` built in, prefers an imported `base`, and takes no property of Object as an alias', async () => {
    const base = await resolveImage(imagesDir, 'base');
    expect(base).toMatchObject({ kind: 'layout', name: 'base' });
    await importImage(imagesDir, 'base', sample.rootfsTar);
    expect((await resolveImage(imagesDir, 'base')) as { digest: string }).not.toMatchObject({
      digest: (base as { digest: string }).digest,
    });
    expect(await resolveImage(imagesDir, 'constructor')).toEqual({ kind: 'registry', reference: 'constructor' });
  });
});

describe('the images directory', () => {
  test('holds one `base`, and no temporary files, after several callers have built it at once', async () => {
    const digests = await Promise.all(Array.from({ length: 6 }, () => ensureBaseImage(imagesDir)));
    expect(new Set(digests.map((image) => image.digest)).size).toBe(1);
    const again = await ensureBaseImage(join(dir, 'elsewhere'));
    expect(again.digest).toBe(digests[0]?.digest);
    expect(readdirSync(join(imagesDir, 'builtin'))).toEqual(['base']);
  });

  test('loses the files of a killed import at the next import, but not the files of a running one', async () => {
    const layouts = join(imagesDir, 'layouts');
    const stale = join(layouts, '.incoming-4000000-1-aaaaaaaaaaaa');
    mkdirSync(stale, { recursive: true });
    writeFileSync(join(stale, 'half'), 'half');
    const live = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
    const ticks = readFileSync(`/proc/${live.pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[19];
    const busy = join(layouts, `.incoming-${live.pid}-${ticks}-bbbbbbbbbbbb`);
    mkdirSync(busy);
    try {
      await importImage(imagesDir, 'one', sample.scratchTar);
      expect(existsSync(stale)).toBe(false);
      expect(existsSync(busy)).toBe(true);
      expect((await listImages(imagesDir)).map((image) => image.name)).toEqual(['one:latest']);
    } finally {
      live.kill('SIGKILL');
    }
  });
});
