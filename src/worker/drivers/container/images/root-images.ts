// Root file systems of images, which boxes share read-only. skopeo pulls an image, umoci unpacks it. Each is named
// after its digest. It is made in a temporary directory and then renamed, so several processes may prepare the same
// image. A registry is asked only once for each reference.
import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { BoxRunError, errorText } from '../../../../shared/errors.ts';
import { runTool } from '../../../../shared/process/child-process.ts';
import type { IdRange } from '../../../../shared/host/id-ranges.ts';
import { findBusybox } from '../../../../shared/images/busybox.ts';
import { moveInto, temporaryDirectory } from '../../../../shared/images/layouts.ts';
import { readLayout, type ImageConfig } from '../../../../shared/images/oci-layout.ts';
import { plainLayout } from '../../../../shared/images/plain-layers.ts';
import { messageOfLogLine, pullFailure } from '../../../../shared/images/pull-failure.ts';
import { canonicalReference, encodeName, parseReference } from '../../../../shared/images/reference.ts';
import type { ImageSource } from '../../../../shared/images/source.ts';
import { limits } from '../../../../shared/limits.ts';
import type { ReportProgress } from '../../driver-contract.ts';
import { lastLines, mustRun, needTool, toolEnvironment } from '../host/tools.ts';

export interface PreparedImage {
  readonly digest: string;
  readonly rootfsDir: string;
  readonly config: ImageConfig;
}

export interface ImagePreparer {
  /** Returns an image that is prepared already, or null. */
  load(digest: string): Promise<PreparedImage | null>;
  /**
   * Returns the image, and pulls and unpacks it first if it is not prepared yet.
   * @throws IMAGE_PULL_FAILED, CANCELED, TIMEOUT, RUNTIME_ERROR
   */
  prepare(source: ImageSource, progress: ReportProgress, signal: AbortSignal): Promise<PreparedImage>;
}

interface PreparerOptions {
  readonly imagesDir: string;
  /** Registries that are reached over plain http, as host:port. */
  readonly insecureRegistries: readonly string[];
  /** The ids of the unpacked files: id 0 of the image becomes the first id of this range. */
  readonly shift: IdRange;
}

export function createImagePreparer(options: PreparerOptions): ImagePreparer {
  const { imagesDir, shift } = options;
  const rootfsDir = (digest: string) => join(imagesDir, 'rootfs', digest.replace(':', '-'));
  const referenceFile = (reference: string) =>
    join(imagesDir, 'refs', `${encodeName(canonicalReference(reference))}.json`);

  const load = async (digest: string): Promise<PreparedImage | null> => {
    const dir = rootfsDir(digest);
    try {
      const config = JSON.parse(await readFile(join(dir, 'config.json'), 'utf8')) as ImageConfig;
      return { digest, rootfsDir: join(dir, 'rootfs'), config };
    } catch {
      return null;
    }
  };

  const find = async (source: ImageSource): Promise<PreparedImage | null> => {
    if (source.kind === 'layout') return load(source.digest);
    const saved = await readFile(referenceFile(source.reference), 'utf8').catch(() => null);
    if (saved === null) return null;
    return load((JSON.parse(saved) as { digest: string }).digest);
  };

  const prepareLayout = async (
    layoutDir: string,
    progress: ReportProgress,
    signal: AbortSignal,
  ): Promise<PreparedImage> => {
    const image = await readLayout(layoutDir);
    const present = await load(image.digest);
    if (present !== null) return present;
    progress('unpack', `unpacking ${basename(layoutDir)}`);
    const target = rootfsDir(image.digest);
    const temporary = await temporaryDirectory(imagesDir, target);
    try {
      for (const warning of await unpackPlain(layoutDir, temporary, shift, signal)) progress('unpack', warning);
      await writeFile(join(temporary, 'config.json'), JSON.stringify(image.config));
      await moveInto(temporary, target, false);
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
    const made = await load(image.digest);
    if (made === null) throw new BoxRunError('RUNTIME_ERROR', `the unpacked image in ${target} cannot be read`);
    return made;
  };

  const pull = async (reference: string, progress: ReportProgress, signal: AbortSignal): Promise<PreparedImage> => {
    progress('pull', `pulling ${reference}`);
    const layout = await temporaryDirectory(imagesDir, join(imagesDir, 'pulls', 'layout'));
    try {
      const insecure = options.insecureRegistries.includes(parseReference(reference).host);
      await copyFromRegistry(reference, layout, insecure, progress, signal);
      const image = await prepareLayout(layout, progress, signal);
      await remember(referenceFile(reference), { reference, digest: image.digest });
      return image;
    } catch (error) {
      throw asPullFailure(reference, error);
    } finally {
      await rm(layout, { recursive: true, force: true });
    }
  };

  /** Prepared images are never removed, because boxes use them. So this process looks for each only once. */
  const known = new Map<string, PreparedImage>();
  const remembered = async (key: string, look: () => Promise<PreparedImage | null>): Promise<PreparedImage | null> => {
    const image = known.get(key) ?? (await look());
    if (image !== null) known.set(key, image).set(image.digest, image);
    return image;
  };

  return {
    load: (digest) => remembered(digest, () => load(digest)),
    async prepare(source, progress, signal) {
      signal.throwIfAborted();
      const key = JSON.stringify(source);
      const present = await remembered(key, () => find(source));
      if (present !== null) return present;
      const made = await (source.kind === 'layout'
        ? prepareLayout(source.layoutDir, progress, signal)
        : pull(source.reference, progress, signal));
      known.set(key, made).set(made.digest, made);
      return made;
    },
  };
}

/**
 * Makes the layers plain (no holes, no foreign owners, gzip or no compression: plain-layers.ts) and unpacks them into
 * `temporary`/rootfs. Returns warnings for the user.
 */
async function unpackPlain(
  layoutDir: string,
  temporary: string,
  shift: IdRange,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const layout = join(temporary, 'layout');
  const plain = await plainLayout(layoutDir, layout, signal);
  await unpack(plain.dir, join(temporary, 'rootfs'), shift, signal);
  await rm(layout, { recursive: true, force: true });
  return plain.warnings;
}

async function unpack(layoutDir: string, target: string, shift: IdRange, signal: AbortSignal): Promise<void> {
  const ids = `0:${shift.base}:${shift.size}`;
  const image = `${basename(layoutDir)}:latest`;
  await mustRun('umoci', ['raw', 'unpack', '--image', image, '--uid-map', ids, '--gid-map', ids, target], {
    timeoutMs: limits.imagePrepareTimeoutMs,
    cwd: dirname(layoutDir),
    signal,
  });
  await giveToBoxRoot(target, shift, signal);
}

/**
 * Gives files of the host's root to the root of a box. The unpacker makes directories that no layer names, and they
 * belong to the host's root. In a box they would belong to nobody.
 */
async function giveToBoxRoot(dir: string, { base }: IdRange, signal: AbortSignal): Promise<void> {
  const busybox = await findBusybox();
  const chown = ['-exec', busybox, 'chown', '-h', `${base}:${base}`, '{}', '+'];
  const result = await runTool(busybox, ['find', dir, '-xdev', '(', '-user', '0', '-o', '-group', '0', ')', ...chown], {
    timeoutMs: limits.imagePrepareTimeoutMs,
    env: toolEnvironment(),
    signal,
  });
  if (result.exitCode !== 0)
    throw new BoxRunError('RUNTIME_ERROR', `the unpacked image cannot be given to a box: ${lastLines(result.stderr)}`);
}

/** Gets the manifest first, with a short deadline, so the call fails soon if the registry does not answer. */
async function copyFromRegistry(
  reference: string,
  layout: string,
  insecure: boolean,
  progress: ReportProgress,
  signal: AbortSignal,
): Promise<void> {
  const source = `docker://${canonicalReference(reference)}`;
  const tls = insecure ? ['--tls-verify=false'] : [];
  await skopeo(['inspect', '--raw', '--no-tags', ...tls, source], limits.registryTimeoutMs, signal);
  const growth = watchGrowth(layout, signal);
  try {
    const sourceTls = insecure ? ['--src-tls-verify=false'] : [];
    const copy = ['copy', ...sourceTls, source, `oci:${layout}:latest`];
    await skopeo(copy, limits.imagePrepareTimeoutMs, growth.signal, (line) => {
      const blob = /^Copying blob (?:sha256:)?([0-9a-f]{12})/.exec(line)?.[1];
      if (blob !== undefined) progress('pull', `pulling ${reference}: layer ${blob}`);
    });
  } catch (error) {
    if (growth.stalled()) throw new Error(`the registry sent nothing for ${limits.registryTimeoutMs} ms`);
    throw error;
  } finally {
    growth.close();
  }
}

async function skopeo(
  args: readonly string[],
  timeoutMs: number,
  signal: AbortSignal,
  onLine?: (line: string) => void,
): Promise<void> {
  const path = await needTool('skopeo');
  // skopeo writes progress to standard output and errors to standard error. Both go to standard error here.
  const script = ['-c', 'exec "$0" "$@" >&2', path, ...args];
  const result = await runTool('/bin/sh', script, {
    timeoutMs,
    signal,
    env: toolEnvironment(),
    ...(onLine === undefined ? {} : { onStderrLine: onLine }),
  });
  if (result.exitCode !== 0) throw new Error(lastLines(result.stderr, 1));
}

/** Aborts when the directory has not grown for `limits.registryTimeoutMs` milliseconds. */
function watchGrowth(dir: string, callerSignal: AbortSignal) {
  const controller = new AbortController();
  let stalled = false;
  let bytesBefore = -1;
  const timer = setInterval(() => {
    void directoryBytes(dir).then((bytes) => {
      if (bytes === bytesBefore) {
        stalled = true;
        controller.abort();
      }
      bytesBefore = bytes;
    });
  }, limits.registryTimeoutMs);
  return {
    signal: AbortSignal.any([callerSignal, controller.signal]),
    stalled: () => stalled,
    close() {
      clearInterval(timer);
    },
  };
}

async function directoryBytes(dir: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(dir, { recursive: true }).catch(() => [])) {
    bytes += (await stat(join(dir, entry)).catch(() => null))?.size ?? 0;
  }
  return bytes;
}

async function remember(path: string, value: { reference: string; digest: string }): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const unique = createHash('sha256').update(`${process.pid} ${process.hrtime.bigint()}`).digest('hex').slice(0, 12);
  const temporary = `${path}.${unique}`;
  await writeFile(temporary, JSON.stringify(value));
  await rename(temporary, path);
}

function asPullFailure(reference: string, error: unknown): unknown {
  if (error instanceof BoxRunError && error.code === 'CANCELED') return error;
  if ((error as Error | null)?.name === 'AbortError')
    return new BoxRunError('CANCELED', `pulling ${reference} was canceled`);
  const reason =
    error instanceof BoxRunError && error.code === 'TIMEOUT' ? 'the registry did not answer in time' : errorText(error);
  // An error with a hint is about the image or this host, not about the registry.
  if (error instanceof BoxRunError && error.hint !== undefined) {
    return new BoxRunError('IMAGE_PULL_FAILED', `cannot pull ${reference}: ${reason}`, {
      cause: error,
      hint: error.hint,
    });
  }
  return pullFailure(reference, parseReference(reference).host, messageOfLogLine(reason), error);
}
