// From a box's specification to the engine's options: checks what the engine would swallow, keeps variables that steer
// the engine out of the box, and adds the hidden volume that everything in guest-control.ts rests on. Pure but for
// asking whether host paths exist. Called by driver.ts before anything is made.
import { stat } from 'node:fs/promises';
import { BoxRunError } from '../../../shared/errors.ts';
import { byDepth, checkVolumePlaces, guestPlace } from '../../../shared/boxes/volume-places.ts';
import { canonicalReference } from '../../../shared/images/reference.ts';
import type { BoxSpec } from '../driver-contract.ts';
import type { EngineBoxOptions } from './engine.ts';

/** Where the host's busybox stands in every box; see guest-control.ts. */
export const toolsPath = '/.boxrun';

/** Kernel, guest agent and page cache; with less the VM comes up sometimes only. */
const memoryMbLeast = 128;
const cpuMost = 255;

/**
 * Process 1 of the box. It takes in orphans, and its end is the box's end: an image's own command would end most boxes
 * at once. TERM is how the engine asks for a shutdown.
 */
const initScript = 'trap "exit 0" TERM; while :; do sleep 2000000 & wait; done';

/** @throws RUNTIME_ERROR, VALIDATION_ERROR naming what cannot be */
export async function checkSpec(spec: BoxSpec): Promise<void> {
  if (spec.memoryMb < memoryMbLeast) {
    throw new BoxRunError(
      'RUNTIME_ERROR',
      `a micro-VM needs at least ${memoryMbLeast} MB of memory, not ${spec.memoryMb}`,
    );
  }
  if (!Number.isInteger(spec.cpu) || spec.cpu < 1 || spec.cpu > cpuMost) {
    throw new BoxRunError('RUNTIME_ERROR', `a micro-VM has 1 to ${cpuMost} CPUs, not ${spec.cpu}`);
  }
  checkVolumePlaces(spec.volumes, 'boxlite', spec.network);
  for (const volume of spec.volumes) {
    const found = await stat(volume.host_path).catch(() => null);
    if (found === null) throw new BoxRunError('RUNTIME_ERROR', `volume: there is no ${volume.host_path} on the host`);
    if (!found.isDirectory()) {
      throw new BoxRunError('RUNTIME_ERROR', `volume: ${volume.host_path} is not a directory`, {
        hint: 'micro-VMs mount directories only; mount the directory that holds the file',
      });
    }
  }
}

/**
 * Without the variables that would reach the engine itself: `BOXLITE_EXECUTOR` alone takes a command out of the box.
 */
export function boxEnvironment(env: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(env).filter(([name]) => !/^(BOXLITE|BOXRUN)_/.test(name));
}

export function engineOptions(spec: BoxSpec, toolsDir: string): EngineBoxOptions {
  const image =
    spec.image.kind === 'layout'
      ? { rootfsPath: spec.image.layoutDir }
      : { image: canonicalReference(spec.image.reference) };
  const hasVolumes = spec.volumes.length > 0;
  return {
    ...image,
    cpus: spec.cpu,
    memoryMib: spec.memoryMb,
    diskSizeGb: spec.diskSizeGb,
    // Each command changes directory itself: the engine would refuse to start a box whose directory is missing.
    workingDir: '/',
    env: boxEnvironment(spec.env).map(([key, value]) => ({ key, value })),
    // The first volume is the engine's `uservol0`, which guest-control.ts counts on.
    volumes: [
      { hostPath: toolsDir, guestPath: toolsPath, readOnly: true },
      ...byDepth(spec.volumes, ({ guest_path: path }) => path).map((volume) => ({
        hostPath: volume.host_path,
        guestPath: guestPlace(volume.guest_path),
        readOnly: volume.readonly,
      })),
    ],
    network: { outbound: { mode: spec.network ? 'enabled' : 'disabled' } },
    entrypoint: [`${toolsPath}/busybox`, 'sh', '-c', initScript],
    cmd: [],
    // The worker may die at any moment, and the box must not.
    detach: true,
    autoRemove: false,
    autoResume: false,
    security: {
      jailerEnabled: true,
      // The engine's filter lacks calls that its file server makes for a mounted volume (statfs, for one): a `df` in
      // the box would kill the VM. The namespaces of the jail stay.
      seccompEnabled: !hasVolumes,
    },
  };
}
