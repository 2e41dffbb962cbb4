// The home of one box: its directory on the host, the runtime that is open on it, and the processes of the VM. The
// runtime is opened at the first use. One process never has two runtimes open on the same home.
import { join } from 'node:path';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import type { DriverContext } from '../../driver-contract.ts';
import { openEngine, type EngineBox, type EngineOptions, type EngineRuntime } from '../engine.ts';
import { prepareHome, removeCgroups, removeHome } from './host-files.ts';
import { createTemplateHome } from './template-home.ts';
import { findVmProcesses, killVmProcesses } from './vm-processes.ts';

export interface BoxHome {
  /** Opens the runtime, or returns the open one. */
  open(): Promise<EngineRuntime>;
  /**
   * Returns a new handle of the box. The engine's handles cannot be used after a stop.
   * @throws RUNTIME_ERROR when the engine has no such box in this home
   */
  box(): Promise<EngineBox>;
  /** Saves files of this home for later boxes of the same image. Call it after the first start. Never rejects. */
  keepTemplate(): Promise<void>;
  /** The engine's own directory of the box. */
  boxDir(engineId: string): string;
  isVmAlive(): Promise<boolean>;
  /** Kills all processes of the VM. `when` is for the log. */
  killLeftovers(when: string): Promise<void>;
  /** Removes everything of the box on the host. */
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
      log.warn({ err: error }, 'the home could not be filled from the template of its image');
    });
  }

  async function killLeftovers(when: string): Promise<void> {
    const killed = await killVmProcesses(homeDir);
    if (killed > 0) log.warn({ killed, when }, 'killed processes that the VM had left');
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
        log.warn({ err: error }, 'the template for later boxes of this image could not be saved');
      });
    },
    boxDir: (engineId) => join(homeDir, 'boxes', engineId),
    isVmAlive: async () => (await findVmProcesses(homeDir)).some((each) => each.isShim),
    killLeftovers,
    async remove() {
      await killLeftovers('before the removal');
      // The names of the cgroups are those of directories that the engine removes, so the cgroups are removed first.
      await removeCgroups(homeDir);
      // The engine keeps all its records of the box in the home. So a runtime that is not open need not be opened here.
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
