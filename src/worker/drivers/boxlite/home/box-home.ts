// The home of one box: its directory, the one runtime that this process may open on it, and the VM's processes on the
// host. Called by driver.ts, boot.ts and live-vm.ts. The runtime is opened when it is first needed, and never twice.
import { join } from 'node:path';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import type { DriverContext } from '../../driver-contract.ts';
import { openEngine, type EngineBox, type EngineOptions, type EngineRuntime } from '../engine.ts';
import { prepareHome, removeCgroups, removeHome } from './host-files.ts';
import { createTemplateHome } from './template-home.ts';
import { findVmProcesses, killVmProcesses } from '../vm/vm-processes.ts';

export interface BoxHome {
  open(): Promise<EngineRuntime>;
  /**
   * A fresh handle: the engine's handles do not survive a stop.
   * @throws RUNTIME_ERROR when the box was never created
   */
  box(): Promise<EngineBox>;
  /** After a first start: what boxes of this image to come can begin with. Never rejects. */
  keepTemplate(): Promise<void>;
  /** The engine's own directory of the box. */
  boxDir(engineId: string): string;
  isVmAlive(): Promise<boolean>;
  /** Kills what is left of the VM; `when` is for the log. */
  killLeftovers(when: string): Promise<void>;
  /** Everything of the box on the host goes. */
  remove(): Promise<void>;
}

const engineRemoveMs = 10_000;

export function createBoxHome(
  { spec, homeDir, imagesDir, log }: DriverContext,
  options: Omit<EngineOptions, 'homeDir'>,
): BoxHome {
  const template = createTemplateHome(imagesDir, spec.image);
  let runtime: Promise<EngineRuntime> | null = null;

  function open(): Promise<EngineRuntime> {
    if (runtime !== null) return runtime;
    const opening = prepareHome(homeDir, imagesDir)
      .then(seed)
      .then(() => openEngine({ homeDir, ...options }));
    runtime = opening;
    opening.catch(() => {
      runtime = null;
    });
    return opening;
  }

  async function seed(): Promise<void> {
    await template.seed(homeDir).catch((error: unknown) => {
      log.warn({ err: error }, 'the home could not be made like an earlier one');
    });
  }

  async function killLeftovers(when: string): Promise<void> {
    const killed = await killVmProcesses(homeDir);
    if (killed > 0) log.warn({ killed, when }, 'killed processes of the VM that were left');
  }

  return {
    open,
    async box() {
      const box = await (await open()).get(spec.boxId);
      if (box === null) {
        throw new BoxRunError('RUNTIME_ERROR', `the disk of box ${spec.boxId} is not in this state directory`, {
          hint: "another BoxRun edition keeps its boxes in the engine's own home: copy what you need out with that one, then remove this box and create a new one",
        });
      }
      return box;
    },
    async keepTemplate() {
      await template.keep(homeDir).catch((error: unknown) => {
        log.warn({ err: error }, 'the home could not be kept for boxes to come');
      });
    },
    boxDir: (engineId) => join(homeDir, 'boxes', engineId),
    isVmAlive: async () => (await findVmProcesses(homeDir)).some((each) => each.isShim),
    killLeftovers,
    async remove() {
      await killLeftovers('before the removal');
      await removeCgroups(homeDir); // The engine's removal would take their names away.
      // Asked only if it is open anyway: all that it knows of the box is in the home.
      const engine = await runtime?.catch(() => null);
      if (engine !== undefined && engine !== null) {
        await withDeadline(engine.remove(spec.boxId, true), engineRemoveMs, 'removing the box').catch(
          (error: unknown) => {
            log.debug({ err: error }, 'the engine did not remove the box');
          },
        );
        engine.close();
      }
      runtime = null;
      await killLeftovers('after the removal');
      await removeHome(homeDir);
    },
  };
}
