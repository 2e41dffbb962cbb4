// Makes images ready before a box needs them. A worker does it, as it does for a box, but there is no box and no row:
// the worker ends afterwards. A pull and the first box of the same image never pull at the same time.
import type { Config } from '../../shared/settings/config.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import { BoxRunError, errorText } from '../../shared/errors.ts';
import { newId } from '../../shared/ids.ts';
import { resolveImage } from '../../shared/images/store.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { imageKey, type ImageGate } from './image-gate.ts';
import type { Quota } from './quota.ts';

/** The part of a worker that a pull needs. */
interface PullWorker {
  /** Gives the worker a box that will never be created. */
  assign(boxId: string, image: Awaited<ReturnType<typeof resolveImage>>): Promise<void>;
  /** Pulls and unpacks the image. Ends soon after `signal` aborts. */
  prepare(progress: (stage: string, message: string) => void, signal: AbortSignal): Promise<void>;
  /** Removes what the worker has made for the box, and ends the worker. */
  end(): Promise<void>;
}

export interface ImagePullsDeps {
  readonly config: Config;
  readonly gate: ImageGate;
  readonly quota: Pick<Quota, 'reserve' | 'release'>;
  readonly log: Logger;
  readonly takeWorker: () => Promise<PullWorker>;
}

interface Caller {
  readonly progress: (stage: string, message: string) => void;
  /** Aborts when the client is gone. */
  readonly signal: AbortSignal;
}

/**
 * The function gives the reference or the name of the image that is ready then.
 * It throws IMAGE_PULL_FAILED, CANCELED, UNAVAILABLE, RUNTIME_ERROR; RESOURCE_EXCEEDED without a free worker;
 * TOO_MANY_REQUESTS while limits.imagePullsMax pulls are under way.
 */
export function createImagePulls({ config, gate, quota, log, takeWorker }: ImagePullsDeps) {
  let running = 0;

  async function pull(requested: string, { progress, signal }: Caller): Promise<string> {
    const image = await resolveImage(statePaths(config.stateDir).imagesDir, requested);
    const boxId = newId('box');
    quota.reserve(boxId, 0, 0); // It needs a worker, but no CPUs and no memory of boxes.
    try {
      // BoxLite converts the image when the first box starts. So a pull does not open the gate for that driver: the
      // first box still passes it alone.
      const isWhole = config.driver === 'container';
      await gate.pass(
        imageKey(config.driver, image),
        async () => {
          const worker = await takeWorker();
          try {
            await worker.assign(boxId, image);
            await worker.prepare(progress, signal);
          } finally {
            await worker.end().catch((error: unknown) => {
              log.error({ reason: errorText(error) }, 'the worker of a pull cannot be ended');
            });
          }
        },
        signal,
        isWhole,
      );
    } finally {
      quota.release(boxId);
    }
    return image.kind === 'registry' ? image.reference : image.name;
  }

  return async (requested: string, caller: Caller): Promise<string> => {
    if (running >= limits.imagePullsMax) {
      throw new BoxRunError('TOO_MANY_REQUESTS', `${running} images are being pulled`, {
        hint: 'try again when one of them is ready',
      });
    }
    running++;
    try {
      return await pull(requested, caller);
    } finally {
      running--;
    }
  };
}
