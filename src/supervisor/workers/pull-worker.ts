// A worker that makes an image ready and never gets a real box. What it has made for its box is removed at the end.
// A worker that hangs after a cancel is killed.
import type { Assignment } from '../../shared/contracts/worker.ts';
import { BoxRunError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { killIfCancelHangs } from './worker-watch.ts';
import type { WorkerHandle } from './worker-handle.ts';

/** The sizes of the box that is never created. */
const noBox = { cpu: 1, memoryMb: 1, diskSizeGb: 1, network: false, workdir: '/', env: {}, volumes: [] };

/** @param instanceId of the database */
export function createPullWorker(worker: WorkerHandle, driver: Assignment['driver'], instanceId: string, log: Logger) {
  const { peer } = worker;
  let isAssigned = false;
  return {
    async assign(boxId: string, image: Assignment['image']): Promise<void> {
      await peer.request('assign', { ...noBox, boxId, generation: 1, instanceId, driver, image });
      isAssigned = true;
    },
    async prepare(onProgress: (stage: string, message: string) => void, signal: AbortSignal): Promise<void> {
      const endWatch = killIfCancelHangs(worker, signal, log);
      try {
        await peer.request('prepareImage', {}, { onProgress, signal, waitAfterAbort: true });
      } finally {
        endWatch();
      }
      if (signal.aborted) throw new BoxRunError('CANCELED', 'the pull was canceled');
    },
    async end(): Promise<void> {
      try {
        if (isAssigned && peer.isOpen) await peer.request('remove', {});
      } finally {
        await worker.stop();
      }
    },
  };
}
