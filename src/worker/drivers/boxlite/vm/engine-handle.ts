// The engine's handle of a running box. A handle can become useless while the VM runs; then it gets another one. If the
// engine believes that the VM has ended, the caller must end the VM.
import { BoxRunError } from '../../../../shared/errors.ts';
import type { Logger } from '../../../../shared/observe/log.ts';
import type { EngineBox } from '../engine.ts';
import { isNotRunningError } from '../engine-errors.ts';
import type { BoxHome } from '../home/box-home.ts';

export interface EngineHandle {
  readonly box: EngineBox;
  /**
   * Does `work` with the handle, and once more with a new one if the old one cannot be used.
   * @throws BOX_NOT_RUNNING when the engine has lost track of the VM
   */
  use<T>(work: (box: EngineBox) => Promise<T>): Promise<T>;
}

/** @param onLost called when the engine has lost track of the VM; it ends the VM */
export function createEngineHandle(
  first: EngineBox,
  home: BoxHome,
  log: Logger,
  onLost: () => Promise<void>,
): EngineHandle {
  let box = first;
  return {
    get box() {
      return box;
    },
    async use(work) {
      try {
        return await work(box);
      } catch (error) {
        if (!isNotRunningError(error instanceof BoxRunError ? error.cause : error)) throw error;
        const fresh = await home.box();
        if ((await fresh.info()).state.running) {
          box = fresh;
          return await work(box);
        }
        log.warn({ err: error }, 'the engine has lost track of the VM');
        await onLost();
        throw new BoxRunError('BOX_NOT_RUNNING', 'the VM of the box has ended', { cause: error });
      }
    },
  };
}
