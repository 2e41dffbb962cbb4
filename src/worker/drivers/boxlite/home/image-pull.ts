// The pull of an image from its registry into the images directory that all homes share. The engine has neither
// progress nor a timeout for a pull. So this file watches how many bytes are on the disk: they are the progress, and a
// pull without new bytes ends with an error.
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep } from '../../../../shared/waiting/clock.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { canonicalReference } from '../../../../shared/images/reference.ts';
import { limits } from '../../../../shared/limits.ts';
import type { ReportProgress } from '../../driver-contract.ts';
import type { EngineRuntime } from '../engine.ts';
import { engineError } from '../engine-errors.ts';

export interface PullOptions {
  readonly runtime: EngineRuntime;
  readonly reference: string;
  /** The directory in which the engine stores images. */
  readonly imagesDir: string;
  readonly progress: ReportProgress;
  readonly signal: AbortSignal;
}

const lookEveryMs = 1_000;

/**
 * Pulls an image. The engine's own download cannot be stopped: after an error here, it may go on until this process
 * ends.
 * @throws IMAGE_PULL_FAILED, CANCELED
 */
export async function pullImage({ runtime, reference, imagesDir, progress, signal }: PullOptions): Promise<void> {
  signal.throwIfAborted();
  progress('pull', `pulling ${reference}`);
  const done = new AbortController();
  const pull = runtime.images.pull(canonicalReference(reference)).then(
    () => undefined,
    (error: unknown) => {
      throw engineError(error, `pulling ${reference}`);
    },
  );
  pull.catch(() => undefined); // It may still fail after this function has ended.
  try {
    await Promise.race([pull, watchPull(reference, imagesDir, progress, signal, done.signal)]);
  } finally {
    done.abort();
  }
}

/**
 * Watches the disk until `done` aborts.
 * @throws IMAGE_PULL_FAILED when no new bytes came for limits.registryTimeoutMs, or when the pull takes longer than
 *   limits.imagePrepareTimeoutMs; CANCELED when `signal` aborts
 */
async function watchPull(
  reference: string,
  imagesDir: string,
  progress: ReportProgress,
  signal: AbortSignal,
  done: AbortSignal,
): Promise<void> {
  const startedAt = Date.now();
  const stop = AbortSignal.any([signal, done]);
  const bytesBefore = await storedBytes(imagesDir);
  let bytes = bytesBefore;
  let lastBytesAt = startedAt;
  while (!done.aborted) {
    await sleep(lookEveryMs, stop);
    if (done.aborted) return;
    if (signal.aborted) throw new BoxRunError('CANCELED', `pulling ${reference} was canceled`);
    const now = await storedBytes(imagesDir);
    if (now !== bytes) {
      bytes = now;
      lastBytesAt = Date.now();
      progress('pull', `pulling ${reference}: ${Math.max(0, (bytes - bytesBefore) / 2 ** 20).toFixed(1)} MiB`);
    }
    const silentMs = Date.now() - lastBytesAt;
    const tookMs = Date.now() - startedAt;
    if (silentMs > limits.registryTimeoutMs || tookMs > limits.imagePrepareTimeoutMs) {
      const why =
        silentMs > limits.registryTimeoutMs
          ? `the registry has sent nothing for ${Math.round(silentMs / 1000)} s`
          : `it was not complete after ${Math.round(tookMs / 1000)} s`;
      throw new BoxRunError('IMAGE_PULL_FAILED', `pulling ${reference}: ${why}`, {
        hint: 'check the network; an image on disk can be brought in with `boxrun images import`',
      });
    }
  }
}

async function storedBytes(imagesDir: string): Promise<number> {
  let sum = 0;
  for (const name of ['layers', 'manifests', 'configs']) {
    const dir = join(imagesDir, name);
    for (const file of await readdir(dir).catch(() => [])) {
      sum += (await stat(join(dir, file)).catch(() => null))?.size ?? 0;
    }
  }
  return sum;
}
