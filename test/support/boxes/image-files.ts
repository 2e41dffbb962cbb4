// Makes images for tests: root file systems as tars, and OCI layouts. All come from small trees with a static busybox,
// so they need no registry.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findBusybox } from '../../../src/shared/images/busybox.ts';
import {
  beginLayout,
  hostArchitecture,
  layerTypes,
  manifestType,
  writeBlob,
  type Descriptor,
} from '../../../src/shared/images/oci-layout.ts';

/** Runs a program of the host and returns its stdout. @throws when it fails */
export function tool(command: string, args: readonly string[], options: { cwd?: string; input?: string } = {}): string {
  return execFileSync(command, args, {
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'pipe'],
    maxBuffer: 2 ** 26,
    ...options,
  });
}

export interface SampleImage {
  /** A root file system with a busybox shell and a marker file. */
  readonly rootfsTar: string;
  /** A root file system with only one static program, /busybox. It has no shell and no /bin. */
  readonly scratchTar: string;
}

/** Writes the sample tars into `dir`. */
export async function makeSampleTars(dir: string, marker = 'sample'): Promise<SampleImage> {
  const busybox = await findBusybox();
  const tree = join(dir, 'tree');
  for (const sub of ['bin', 'etc', 'tmp', 'root', 'home/user']) mkdirSync(join(tree, sub), { recursive: true });
  copyFileSync(busybox, join(tree, 'bin/busybox'));
  for (const name of ['sh', 'cat', 'id', 'ls', 'sleep', 'true', 'env', 'pwd'])
    tool('ln', ['-sf', 'busybox', join(tree, 'bin', name)]);
  writeFileSync(join(tree, 'etc/marker'), `${marker}\n`);
  writeFileSync(join(tree, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1001::/home/user:/bin/sh\n');
  writeFileSync(join(tree, 'etc/group'), 'root:x:0:\nuser:x:1001:\nextra:x:1234:user\n');
  const rootfsTar = join(dir, 'rootfs.tar');
  tool('tar', ['--numeric-owner', '--owner=0', '--group=0', '-C', tree, '-cf', rootfsTar, '.']);
  const scratch = join(dir, 'scratch');
  mkdirSync(scratch, { recursive: true });
  copyFileSync(busybox, join(scratch, 'busybox'));
  const scratchTar = join(dir, 'scratch.tar');
  tool('tar', ['--numeric-owner', '--owner=0', '--group=0', '-C', scratch, '-cf', scratchTar, 'busybox']);
  return { rootfsTar, scratchTar };
}

/**
 * Makes a root file system with `program` of this host, its libraries, a shell and terminfo. Returns the path of its
 * tar.
 */
export async function makeProgramTar(dir: string, program: string): Promise<string> {
  const tree = join(dir, 'program-tree');
  for (const sub of ['bin', 'etc', 'root', 'tmp', 'lib']) mkdirSync(join(tree, sub), { recursive: true });
  copyFileSync(await findBusybox(), join(tree, 'bin/busybox'));
  for (const name of ['sh', 'echo']) tool('ln', ['-sf', 'busybox', join(tree, 'bin', name)]);
  const libraries = [...tool('ldd', [program]).matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path]) => path ?? '');
  tool('cp', ['-L', '--parents', program, ...libraries, tree]);
  tool('cp', ['-rL', '/lib/terminfo', join(tree, 'lib')]);
  const tar = join(dir, 'program.tar');
  tool('tar', ['--numeric-owner', '--owner=0', '--group=0', '-C', tree, '-cf', tar, '.']);
  return tar;
}

export interface LayoutOptions {
  readonly architecture?: string;
  readonly os?: string;
  readonly config?: Readonly<Record<string, unknown>>;
}

/** Makes an OCI layout directory with one uncompressed layer. */
export async function makeLayout(dir: string, layerTar: string, options: LayoutOptions = {}): Promise<string> {
  return makeLayeredLayout(dir, [{ tar: readFileSync(layerTar) }], options);
}

export interface SampleLayer {
  readonly tar: Buffer;
  /** The bytes of this layer in the layout, for example compressed or damaged. The default is the tar itself. */
  readonly blob?: Buffer;
  readonly mediaType?: string;
}

/** Makes an OCI layout directory with these layers, the lowest layer first. */
export async function makeLayeredLayout(
  dir: string,
  samples: readonly SampleLayer[],
  options: LayoutOptions = {},
): Promise<string> {
  await beginLayout(dir);
  const layers: Descriptor[] = [];
  for (const { tar, blob, mediaType } of samples)
    layers.push(await writeBlob(dir, mediaType ?? layerTypes.plain, blob ?? tar));
  const architecture = options.architecture ?? hostArchitecture();
  const config = await writeBlob(
    dir,
    'application/vnd.oci.image.config.v1+json',
    JSON.stringify({
      architecture,
      os: options.os ?? 'linux',
      config: options.config ?? {},
      rootfs: {
        type: 'layers',
        diff_ids: samples.map(({ tar }) => `sha256:${createHash('sha256').update(tar).digest('hex')}`),
      },
    }),
  );
  const manifest = await writeBlob(
    dir,
    manifestType,
    JSON.stringify({ schemaVersion: 2, mediaType: manifestType, config, layers }),
  );
  writeIndex(dir, [{ ...manifest, annotations: { 'org.opencontainers.image.ref.name': 'latest' } }]);
  return dir;
}

export function writeIndex(dir: string, manifests: readonly Descriptor[]): void {
  writeFileSync(join(dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
}
