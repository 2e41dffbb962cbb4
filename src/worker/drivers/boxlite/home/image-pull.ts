// Brings an image's layers from its registry into the directory that all homes share. The engine has neither progress
// nor a timeout for that, so what arrives on disk tells whether the registry still talks. Called by driver.ts.
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
  /** Where the engine keeps images. */
  readonly imagesDir: string;
  readonly progress: ReportProgress;
  readonly signal: AbortSignal;
}

const lookEveryMs = 1_000;

/** @throws IMAGE_PULL_FAILED, CANCELED. The engine's own download cannot be stopped: it ends with the process. */
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
  pull.catch(() => undefined); // It may fail long after it was given up.
  try {
    await Promise.race([pull, watchPull(reference, imagesDir, progress, signal, done.signal)]);
  } finally {
    done.abort();
  }
}

/** Rejects when nothing new has come for too long, or when it was asked to stop. */
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
  let newsAt = startedAt;
  while (!done.aborted) {
    await sleep(lookEveryMs, stop);
    if (done.aborted) return;
    if (signal.aborted) throw new BoxRunError('CANCELED', `pulling ${reference} was canceled`);
    const now = await storedBytes(imagesDir);
    if (now !== bytes) {
      bytes = now;
      newsAt = Date.now();
      progress('pull', `pulling ${reference}: ${Math.max(0, (bytes - bytesBefore) / 2 ** 20).toFixed(1)} MiB`);
    }
    const silentMs = Date.now() - newsAt;
    if (silentMs > limits.registryTimeoutMs || Date.now() - startedAt > limits.imagePrepareTimeoutMs) {
      throw new BoxRunError(
        'IMAGE_PULL_FAILED',
        `pulling ${reference}: the registry has sent nothing for ${Math.round(silentMs / 1000)} s`,
        {
          hint: 'check the network; an image on disk can be brought in with `boxrun images import`',
        },
      );
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
