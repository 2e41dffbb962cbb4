// Attacks through real images: entries and links that lead out of the root file system, devices, and links at places
// where the driver mounts. Each image is imported as a root file system and as a layer of an OCI layout. If the import
// succeeds, a box is started from it.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { errorText } from '../../src/shared/errors.ts';
import { importImage } from '../../src/shared/images/import.ts';
import { attack } from '../support/security/attacks.ts';
import { describeOnHost, useBoxes } from '../support/boxes/container-boxes.ts';
import { temporaryDir } from '../support/boxes/driver-harness.ts';
import { makeLayout, makeSampleTars } from '../support/boxes/image-files.ts';

const boxes = useBoxes();
let dir = '';
let base: Buffer;
let count = 0;
const outside = () => join(dir, 'outside');

beforeAll(async () => {
  dir = await temporaryDir('hostile-images');
  const { rootfsTar } = await makeSampleTars(dir);
  base = withoutEnd(readFileSync(rootfsTar));
  mkdirSync(outside());
  writeFileSync(join(outside(), 'secret'), 'of the host\n', { mode: 0o644 });
});
afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

interface Entry {
  readonly path: string;
  /** The type in the tar header: 0 file, 1 hard link, 2 symlink, 3 character device, 4 block device, 5 directory. */
  readonly type: '0' | '1' | '2' | '3' | '4' | '5';
  readonly target?: string;
  readonly device?: readonly [major: number, minor: number];
}

/** Makes the tar block of an entry. A file has the content `evil`. Nothing is checked, so entries can be hostile. */
function block({ path, type, target = '', device = [0, 0] }: Entry): Buffer {
  const header = Buffer.alloc(512);
  const octal = (value: number, offset: number, length: number) =>
    header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, offset);
  const content = type === '0' ? Buffer.from('evil') : Buffer.alloc(0);
  header.write(path, 0, 100);
  octal(0o777, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(content.length, 124, 12);
  octal(0, 136, 12);
  header.write(`        ${type}`, 148);
  header.write(target, 157, 100);
  header.write('ustar\u000000', 257);
  octal(device[0], 329, 8);
  octal(device[1], 337, 8);
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    8,
  );
  return content.length === 0 ? header : Buffer.concat([header, content, Buffer.alloc(512 - content.length)]);
}

function withoutEnd(tar: Buffer): Buffer {
  let end = tar.length;
  while (end >= 512 && tar.subarray(end - 512, end).every((byte) => byte === 0)) end -= 512;
  return tar.subarray(0, end);
}

function hostileTar(entries: readonly Entry[]): string {
  const path = join(dir, `hostile-${(count += 1)}.tar`);
  writeFileSync(path, Buffer.concat([base, ...entries.map(block), Buffer.alloc(1024)]));
  return path;
}

const forms = {
  'root file system': async (tar: string) => tar,
  'OCI layer': (tar: string) => makeLayout(`${tar}-layout`, tar),
};

/** Imports the image and starts a box from it. Returns the box, or the error. */
async function boxOf(
  entries: readonly Entry[],
  form: keyof typeof forms,
): Promise<Awaited<ReturnType<typeof boxes.started>> | string> {
  const name = `hostile-${(count += 1)}`;
  try {
    await importImage(boxes.imagesDir(), name, await forms[form](hostileTar(entries)));
    return await boxes.started({ image: name });
  } catch (error) {
    return errorText(error);
  }
}

function expectNothingEscaped(): void {
  expect(readdirSync(outside())).toEqual(['secret']);
  expect(readFileSync(join(outside(), 'secret'), 'utf8')).toBe('of the host\n');
  for (const where of [dir, boxes.imagesDir(), '/', '/tmp']) expect(existsSync(join(where, 'escaped'))).toBe(false);
}

/** The attacks. `look` is a command in the box that would print the secret if the attack had succeeded. */
const attacks: readonly (readonly [what: string, entries: () => readonly Entry[], look: string])[] = [
  [
    'an entry with ..',
    () => [
      { path: '../../escaped', type: '0' },
      { path: 'etc/../../../escaped', type: '0' },
    ],
    'cat /nothing',
  ],
  ['an absolute entry', () => [{ path: `${outside()}/escaped`, type: '0' }], 'cat /nothing'],
  [
    'a file below an absolute link',
    () => [
      { path: 'way', type: '2', target: outside() },
      { path: 'way/escaped', type: '0' },
    ],
    'cat /way/secret',
  ],
  [
    'a file below a link upwards',
    () => [
      { path: 'up', type: '2', target: `../../../../../../../..${outside()}` },
      { path: 'up/escaped', type: '0' },
    ],
    'cat /up/secret',
  ],
  [
    'a hard link to a file of the host',
    () => [{ path: 'stolen', type: '1', target: `${outside()}/secret` }],
    'cat /stolen',
  ],
  [
    'a hard link upwards',
    () => [{ path: 'stolen', type: '1', target: `../../../../../../../..${outside()}/secret` }],
    'cat /stolen',
  ],
  [
    'a hard link through a link',
    () => [
      { path: 'way', type: '2', target: outside() },
      { path: 'stolen', type: '1', target: 'way/secret' },
    ],
    'cat /stolen',
  ],
  [
    'a whiteout of the directory above',
    () => [
      { path: 'etc/.wh...', type: '0' },
      { path: '.wh...', type: '0' },
    ],
    'cat /nothing',
  ],
  [
    'links where the driver mounts',
    () => ['proc', 'sys', 'dev'].map((path): Entry => ({ path, type: '2', target: outside() })),
    'cat /nothing',
  ],
  [
    'links where the driver writes files',
    () =>
      ['etc/hosts', 'etc/hostname', 'etc/resolv.conf'].map((path): Entry => ({
        path,
        type: '2',
        target: `${outside()}/escaped`,
      })),
    'cat /nothing',
  ],
  ['a link as the working directory', () => [{ path: 'root', type: '2', target: outside() }], 'cat secret'],
];

describeOnHost('an image that has', () => {
  for (const [what, entries, look] of attacks) {
    for (const form of Object.keys(forms) as (keyof typeof forms)[]) {
      attack(`${what}, as ${form}`, async () => {
        const box = await boxOf(entries(), form);
        expectNothingEscaped();
        if (typeof box === 'string') return box;
        const { stdout } = await box.run(['sh', '-c', look]);
        expect(stdout).not.toContain('of the host');
        expectNothingEscaped();
        return 'unpacked inside its own root: it does not change or see the host';
      });
    }
  }

  for (const form of Object.keys(forms) as (keyof typeof forms)[]) {
    attack(`devices, as ${form}`, async () => {
      const box = await boxOf(
        [
          { path: 'disk', type: '4', device: [8, 0] },
          { path: 'mem', type: '3', device: [1, 1] },
          { path: 'null', type: '3', device: [1, 3] },
        ],
        form,
      );
      if (typeof box === 'string') return box;
      const { stderr, exit } = await box.run(['sh', '-c', 'for d in disk mem null; do cat /$d; done >/dev/null']);
      expect(stderr.match(/Permission denied|Operation not permitted|No such/g)).toHaveLength(3);
      expect(exit).not.toEqual({ exitCode: 0 });
      return stderr;
    });
  }
});

describe('an OCI layout', () => {
  attack('has a path as the digest of its manifest', async () => {
    const layout = await makeLayout(join(dir, 'paths'), hostileTar([]));
    writeFileSync(
      join(layout, 'index.json'),
      JSON.stringify({
        schemaVersion: 2,
        manifests: [
          { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: 'sha256:../../../etc/passwd', size: 1 },
        ],
      }),
    );
    const error: unknown = await importImage(boxes.imagesDir(), 'paths', layout).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'VALIDATION_ERROR',
      message: expect.stringContaining('not a sha256 digest') as string,
    });
    return errorText(error);
  });
});
