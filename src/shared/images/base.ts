// The built-in image `base`: the static busybox of the host's distribution, links for its programs, and the few files
// that a login needs. It is made at its first use, once per state directory. Equal inputs give an equal digest.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { posix } from 'node:path';
import { gzipSync } from 'node:zlib';
import { runTool } from '../process/child-process.ts';
import { BoxRunError } from '../errors.ts';
import { findBusybox } from './busybox.ts';
import { imagePaths, installLayout, installedDigest } from './layouts.ts';
import { beginLayout, finishLayout, layerTypes, writeBlob } from './oci-layout.ts';
import { packTar, type TarFile } from './tar.ts';

export const baseImageName = 'base';
const listTimeoutMs = 10_000;
const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const directories: ReadonlyArray<readonly [path: string, mode: number]> = [
  ['bin', 0o755],
  ['dev', 0o755],
  ['etc', 0o755],
  ['home', 0o755],
  ['proc', 0o555],
  ['root', 0o700],
  ['run', 0o755],
  ['sbin', 0o755],
  ['sys', 0o555],
  ['tmp', 0o1777],
  ['usr', 0o755],
  ['usr/bin', 0o755],
  ['usr/sbin', 0o755],
  ['var', 0o755],
  ['var/tmp', 0o1777],
];

const files: Readonly<Record<string, string>> = {
  'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n',
  'etc/group': 'root:x:0:\ntty:x:5:\nnogroup:x:65534:\n',
  'etc/hosts': '127.0.0.1\tlocalhost\n::1\tlocalhost\n',
  'etc/hostname': 'box\n',
  'etc/resolv.conf': '',
  'etc/nsswitch.conf': 'hosts: files dns\n',
  'etc/profile': `export PATH=${defaultPath}\n`,
  'etc/os-release': 'ID=boxrun-base\nNAME="BoxRun base"\nPRETTY_NAME="BoxRun base (busybox)"\n',
};

/**
 * The layout of `base`. If there is none, this makes it. Several processes may call it at the same time.
 * @throws RUNTIME_ERROR if the host has no static busybox
 */
export async function ensureBaseImage(imagesDir: string): Promise<{ layoutDir: string; digest: string }> {
  const layoutDir = imagePaths(imagesDir).builtin(baseImageName);
  const present = await installedDigest(layoutDir);
  if (present !== null) return { layoutDir, digest: present };
  const layer = packTar(await baseFiles());
  await installLayout(imagesDir, layoutDir, { replace: false }, async (dir) => {
    await beginLayout(dir);
    const blob = await writeBlob(dir, layerTypes.gzip, gzipSync(layer, { level: 6 }));
    const diffId = `sha256:${createHash('sha256').update(layer).digest('hex')}`;
    await finishLayout(dir, [blob], [diffId], [`PATH=${defaultPath}`]);
  });
  const digest = await installedDigest(layoutDir);
  if (digest === null) throw new BoxRunError('RUNTIME_ERROR', `the base image in ${layoutDir} cannot be read`);
  return { layoutDir, digest };
}

async function baseFiles(): Promise<TarFile[]> {
  const busybox = await findBusybox();
  const content = await readFile(busybox);
  const listed = await runTool(busybox, ['--list-full'], { timeoutMs: listTimeoutMs });
  if (listed.exitCode !== 0) throw new BoxRunError('RUNTIME_ERROR', `${busybox} does not list its programs`);
  const links = new Set(listed.stdout.split('\n').filter((path) => /^(usr\/)?s?bin\/[^/]+$/.test(path)));
  links.add('bin/sh');
  links.delete('bin/busybox');
  return [
    ...directories.map(([path, mode]): TarFile => ({ path, mode, type: 'directory' })),
    { path: 'bin/busybox', mode: 0o755, type: 'file', content },
    ...[...links].sort().map((path): TarFile => {
      return { path, mode: 0o777, type: 'symlink', target: posix.relative(posix.dirname(path), 'bin/busybox') };
    }),
    ...Object.entries(files).map(([path, text]): TarFile => {
      return { path, mode: 0o644, type: 'file', content: Buffer.from(text) };
    }),
  ];
}
