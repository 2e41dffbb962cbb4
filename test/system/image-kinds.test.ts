// Tests images as other tools build them, each in a real box of the container driver: compression of layers, files with
// holes, owners, whiteouts and unusual entries. An import refuses an image of which no box can be made.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { importImage } from '../../src/shared/images/import.ts';
import { layerTypes } from '../../src/shared/images/oci-layout.ts';
import { describeOnHost, useBoxes } from '../support/boxes/container-boxes.ts';
import { temporaryDir } from '../support/boxes/driver-harness.ts';
import {
  makeLayeredLayout,
  makeSampleTars,
  type LayoutOptions,
  type SampleLayer,
} from '../support/boxes/image-files.ts';

const boxes = useBoxes();
const ownedByRoot = ['--owner=0', '--group=0'];
let dir = '';
let rootfs: Buffer;
let count = 0;

beforeAll(async () => {
  dir = await temporaryDir('kinds');
  rootfs = readFileSync((await makeSampleTars(dir)).rootfsTar);
});
afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

/** Makes a tar of the files that a shell script creates in an empty directory. */
function layerOf(script: string, args: readonly string[] = ownedByRoot, members: readonly string[] = ['.']): Buffer {
  const tree = join(dir, `layer-${(count += 1)}`);
  mkdirSync(tree);
  execFileSync('sh', ['-e', '-c', script], { cwd: tree });
  return execFileSync('tar', ['--numeric-owner', '-C', tree, '-c', ...args, ...members], { maxBuffer: 2 ** 27 });
}

/** A shell command that sets an extended attribute of a file to bytes, which are given as hexadecimal digits. */
const setAttribute = (file: string, name: string, hex: string) =>
  `python3 -c "import os; os.setxattr('${file}', '${name}', bytes.fromhex('${hex}'))"`;

/** Returns the archive without the entry. */
function without(tar: Buffer, entry: string): Buffer {
  const path = join(dir, `tar-${(count += 1)}`);
  writeFileSync(path, tar);
  execFileSync('tar', ['--delete', '-f', path, entry]);
  return readFileSync(path);
}

async function imported(samples: readonly SampleLayer[], options: LayoutOptions = {}) {
  const layout = await makeLayeredLayout(join(dir, `layout-${(count += 1)}`), samples, options);
  return { layout, ...(await importImage(boxes.imagesDir(), `kind-${count}`, layout)) };
}

/** Returns what `script` prints in a box of an image with these layers. */
async function printed(samples: readonly SampleLayer[], script: string, options: LayoutOptions = {}): Promise<string> {
  const { name } = await imported(samples, options);
  const box = await boxes.started({ image: name, spec: { workdir: '/' } });
  const { stdout, stderr } = await box.run(['/bin/sh', '-c', script]);
  return stdout + stderr;
}

function compressedWith(command: string, tar: Buffer): Buffer {
  return execFileSync('sh', ['-c', command], { input: tar, maxBuffer: 2 ** 27 });
}

describeOnHost('an image with a layer', () => {
  test.each([
    ['without compression', layerTypes.plain, (tar: Buffer) => tar],
    ['compressed with gzip', layerTypes.gzip, (tar: Buffer) => gzipSync(tar)],
    [
      'compressed with zstd',
      'application/vnd.oci.image.layer.v1.tar+zstd',
      (tar: Buffer) => compressedWith('zstd -q -c', tar),
    ],
    [
      'in two frames of zstd',
      'application/vnd.oci.image.layer.v1.tar+zstd',
      (tar: Buffer) =>
        Buffer.concat([
          compressedWith('zstd -q -c', tar.subarray(0, 100_000)),
          compressedWith('zstd -q -c', tar.subarray(100_000)),
        ]),
    ],
    [
      'compressed with gzip, with the media type of Docker',
      'application/vnd.docker.image.rootfs.diff.tar.gzip',
      (tar: Buffer) => gzipSync(tar),
    ],
    [
      'compressed with zstd, with the media type of gzip',
      layerTypes.gzip,
      (tar: Buffer) => compressedWith('zstd -q -c', tar),
    ],
  ])('%s becomes a box', async (_name, mediaType, compress) => {
    expect(await printed([{ tar: rootfs, blob: compress(rootfs), mediaType }], 'cat /etc/marker')).toBe('sample\n');
  });
});

describeOnHost('a file of an image', () => {
  test.each([['gnu'], ['posix']])('with holes (tar -S, %s) has its content and its size in a box', async (format) => {
    const layer = layerOf(
      'truncate -s 5000000 holes; printf middle | dd of=holes bs=1000 seek=2000 conv=notrunc 2>/dev/null',
      [`--format=${format}`, '-S', ...ownedByRoot],
    );
    const script =
      'busybox wc -c < /holes; busybox dd if=/holes bs=1000 skip=2000 count=1 2>/dev/null | busybox head -c 6; busybox tr -d "\\0" < /holes | busybox wc -c';
    expect(layer.length).toBeLessThan(100_000);
    expect(await printed([{ tar: rootfs }, { tar: layer }], script)).toBe('5000000\nmiddle6\n');
  });

  test('of a user above 65535 belongs to nobody in a box, and the import warns about it', async () => {
    const layer = layerOf('mkdir d; echo x > d/f; chown 70000:80000 d/f; chown 65535:65535 d', [], ['d']);
    const { name, warnings } = await imported([{ tar: rootfs }, { tar: layer }]);
    expect(warnings).toEqual(['d/f has an owner above 65535 (70000); in a box it belongs to nobody (65534)']);
    const box = await boxes.started({ image: name, spec: { workdir: '/' } });
    expect((await box.run(['/bin/sh', '-c', 'busybox stat -c "%n %u:%g" /d /d/f'])).stdout).toBe(
      '/d 65535:65535\n/d/f 65534:65534\n',
    );
  });
});

describeOnHost('an entry of Env without =', () => {
  test('sets nothing, and removes an earlier variable of that name', async () => {
    const Env = ['FOO', 'KEPT=1', 'GONE=1', 'GONE', 'EMPTY=', 'EQUALS=a=b', '=odd'];
    expect(
      await printed([{ tar: rootfs }], 'busybox env | busybox sort | busybox grep -v -e ^HOME -e ^PWD -e ^SHLVL', {
        config: { Env },
      }),
    ).toBe('EMPTY=\nEQUALS=a=b\nKEPT=1\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n');
  });
});

interface OddLayers {
  readonly layers: () => Buffer[];
  readonly script: string;
  readonly prints: string;
}

const oddLayers: Readonly<Record<string, OddLayers>> = {
  'a file that a later layer removes': {
    layers: () => [layerOf('mkdir d; touch d/a d/b'), layerOf('mkdir d; touch d/.wh.a d/.wh.never-there')],
    script: 'ls -A /d',
    prints: 'b\n',
  },
  'a directory that a later layer makes opaque': {
    layers: () => [layerOf('mkdir -p d/sub; touch d/a d/sub/x'), layerOf('mkdir d; touch d/c d/.wh..wh..opq')],
    script: 'ls -A /d',
    prints: 'c\n',
  },
  'an opaque mark after the new files of its directory': {
    layers: () => [
      layerOf('mkdir d; touch d/a'),
      layerOf('mkdir d; touch d/c d/.wh..wh..opq', ownedByRoot, ['d/c', 'd/.wh..wh..opq']),
    ],
    script: 'ls -A /d',
    prints: 'c\n',
  },
  'a hard link to a file of an earlier layer': {
    layers: () => [
      layerOf('mkdir d; echo one > d/a'),
      without(layerOf('mkdir d; echo one > d/a; ln d/a d/z', ownedByRoot, ['d/a', 'd/z']), 'd/a'),
    ],
    script: 'cat /d/z',
    prints: 'one\n',
  },
  'a hard link in a directory without an entry': {
    layers: () => [layerOf('mkdir -p n/m; echo two > t; ln t n/m/l', ownedByRoot, ['t', 'n/m/l'])],
    script: 'cat /n/m/l',
    prints: 'two\n',
  },
  'a hard link to a symbolic link': {
    layers: () => [layerOf('ln -s etc/marker s; ln s l', ownedByRoot, ['s', 'l'])],
    script: 'cat /l',
    prints: 'sample\n',
  },
  'a directory that becomes a link, and a link that becomes a directory': {
    layers: () => [layerOf('mkdir a; touch a/x; ln -s etc b'), layerOf('ln -s etc a; mkdir b; touch b/y')],
    script: 'ls -A /b; cat /a/marker',
    prints: 'y\nsample\n',
  },
  'the same file twice': {
    layers: () => [
      layerOf('mkdir v; echo old > v/f; echo new > f', ['-P', '--transform=s,^v/f,f,', ...ownedByRoot], ['v/f', 'f']),
    ],
    script: 'cat /f',
    prints: 'new\n',
  },
  'absolute names and absolute links': {
    layers: () => [
      layerOf('echo abs > f; ln -s /etc/marker l', ['-P', '--transform=s,^f,/abs/f,', ...ownedByRoot], ['f', 'l']),
    ],
    script: 'cat /abs/f /l',
    prints: 'abs\nsample\n',
  },
  'names of more than 100 and 255 characters': {
    layers: () =>
      ['gnu', 'posix'].map((format) => {
        const path = Array.from({ length: 3 }, (_, index) => `${format}${String(index).repeat(120)}`).join('/');
        return layerOf(`mkdir -p ${path}; echo ${format} > ${path}/f`, [`--format=${format}`, ...ownedByRoot]);
      }),
    script: 'cat /gnu*/*/*/f /posix*/*/*/f',
    prints: 'gnu\nposix\n',
  },
  'names that are not UTF-8': {
    layers: () => [
      layerOf('printf odd > "$(printf \'n\\377\\376\')"', ['--format=posix', ...ownedByRoot]),
      layerOf('printf gnu > "$(printf \'m\\377\')"', ['--format=gnu', ...ownedByRoot]),
    ],
    script: "cat /$(printf 'n\\377\\376') /$(printf 'm\\377')",
    prints: 'oddgnu',
  },
  'times far in the past and in the future': {
    layers: () => [
      layerOf('touch -d 2200-01-01T00:00:00Z a; touch -d 1910-01-01T00:00:00Z b', ['--format=posix', ...ownedByRoot]),
    ],
    script: 'busybox stat -c %Y /a /b',
    prints: '7258118400\n-1893456000\n',
  },
  'setuid, setgid and sticky bits, and a read-only directory': {
    layers: () => [layerOf('touch u g; mkdir t r; touch r/f; chmod 4755 u; chmod 2755 g; chmod 1777 t; chmod 0555 r')],
    script: 'busybox stat -c %a /u /g /t /r',
    prints: '4755\n2755\n1777\n555\n',
  },
  'a global header, as git archive writes it': {
    layers: () => [
      layerOf(
        'echo g > g',
        ['--format=posix', '--pax-option=globexthdr.name=pax_global_header,comment=0123', ...ownedByRoot],
        ['g'],
      ),
    ],
    script: 'cat /g',
    prints: 'g\n',
  },
  'extended attributes': {
    layers: () => [
      layerOf(`echo x > x; ${setAttribute('x', 'user.note', '68656c6c6f')}`, [
        '--format=posix',
        '--xattrs',
        '--xattrs-include=*',
        ...ownedByRoot,
      ]),
    ],
    script: 'cat /x',
    prints: 'x\n',
  },
  'capabilities of a file, which have no effect': {
    layers: () => [
      layerOf(
        `mkdir etc; printf 'root:x:0:0::/:/bin/sh\\nuser:x:1000:1000::/:/bin/sh\\n' > etc/passwd; mkdir able; cp "$(command -v busybox)" able/busybox; ${setAttribute('able/busybox', 'security.capability', '0100000200200000000000000000000000000000')}`,
        ['--format=posix', '--xattrs', '--xattrs-include=*', ...ownedByRoot],
      ),
    ],
    script: 'busybox su -s /bin/sh user -c "/able/busybox grep CapEff /proc/self/status" 2>&1',
    prints: 'CapEff:\t0000000000000000\n',
  },
  'a FIFO and a character device': {
    layers: () => [layerOf('mkfifo p; mknod c c 1 3')],
    script: 'busybox stat -c %F /p /c',
    prints: 'fifo\ncharacter special file\n',
  },
  'an archive without an end mark, and an empty archive': {
    layers: () => [layerOf('echo e > e', ownedByRoot, ['e']).subarray(0, 1024), Buffer.alloc(1024)],
    script: 'cat /e',
    prints: 'e\n',
  },
};

describeOnHost('a layer with', () => {
  test.each(Object.entries(oddLayers))('%s becomes part of a box', async (_name, { layers, script, prints }) => {
    expect(await printed([{ tar: rootfs }, ...layers().map((tar) => ({ tar }))], script)).toBe(prints);
  });

  test('extended attributes keeps them, those of capabilities too', async () => {
    const set = ['user.note', 'security.capability'].map((name) =>
      setAttribute('marked', name, name === 'user.note' ? '6869' : '0100000200200000000000000000000000000000'),
    );
    const tar = layerOf(`echo x > marked; ${set.join('; ')}`, [
      '--format=posix',
      '--xattrs',
      '--xattrs-include=*',
      ...ownedByRoot,
    ]);
    await printed([{ tar: rootfs }, { tar }], 'cat /marked');
    const attributes = attributesOnHost('marked');
    expect(attributes).toContain("('user.note', b'hi')");
    expect(attributes).toContain("('security.capability', ");
  });
});

/** The extended attributes of the file `name` in every unpacked image, as the host sees them. */
function attributesOnHost(name: string): string {
  const script = `
import os, sys
for root, _, files in os.walk(sys.argv[1]):
    if sys.argv[2] in files:
        path = os.path.join(root, sys.argv[2])
        print([(key, os.getxattr(path, key)) for key in sorted(os.listxattr(path))])`;
  return execFileSync('python3', ['-c', script, boxes.imagesDir(), name], { encoding: 'utf8' });
}

describeOnHost('the import refuses an image', () => {
  async function refused(samples: readonly SampleLayer[], message: RegExp, options: LayoutOptions = {}): Promise<void> {
    await expect(imported(samples, options)).rejects.toMatchObject({
      code: 'VALIDATION_ERROR',
      message: expect.stringMatching(message) as unknown,
    });
    expect(readdirSync(join(boxes.imagesDir(), 'layouts')).filter((name) => name.startsWith('.'))).toEqual([]);
  }

  test('with a layer that is not a tar, or is damaged', async () => {
    const text = Buffer.from('no tar at all\n'.repeat(100));
    await refused([{ tar: rootfs }, { tar: text }], /cannot be used: damaged archive/);
    await refused(
      [{ tar: rootfs, blob: gzipSync(rootfs).subarray(0, 50_000), mediaType: layerTypes.gzip }],
      /cannot be used/,
    );
    const zstd = compressedWith('zstd -q -c', rootfs);
    await refused(
      [{ tar: rootfs, blob: zstd.subarray(0, 50_000), mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd' }],
      /damaged/,
    );
  });

  test('with a layer that does not have the digest in its configuration', () =>
    refused(
      [{ tar: rootfs, blob: gzipSync(layerOf('touch other')), mediaType: layerTypes.gzip }],
      /is damaged: it is sha256/,
    ));

  test('with a hard link to a missing file', () =>
    refused(
      [{ tar: rootfs }, { tar: without(layerOf('echo a > a; ln a z', ownedByRoot, ['a', 'z']), 'a') }],
      /cannot be unpacked/,
    ));

  test('with an entry below a file', () =>
    refused(
      [
        { tar: rootfs },
        { tar: layerOf('echo file > p') },
        { tar: layerOf('mkdir p; echo below > p/q', ownedByRoot, ['p/q']) },
      ],
      /cannot be unpacked: .*p\/q/,
    ));

  test.each([
    [{ Env: 'PATH=/bin' }, /Env/],
    [{ Env: [1] }, /Env/],
    [{ Env: ['A=\0'] }, /Env/],
    [{ User: 0 }, /User/],
  ])('whose configuration is %j', (config, message) => refused([{ tar: rootfs }], message, { config }));

  test('for another operating system', () => refused([{ tar: rootfs }], /is for windows/, { os: 'windows' }));
});
