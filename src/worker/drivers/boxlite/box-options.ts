// The engine's options for a box, made from the box's specification. Values that the engine would silently accept and
// not honour are refused here. Variables that would steer the engine never reach it. Every box gets the hidden tools
// volume. Pure, except that it looks for the host paths of volumes.
import { stat } from 'node:fs/promises';
import { BoxRunError } from '../../../shared/errors.ts';
import { byDepth, checkVolumePlaces, guestPlace } from '../../../shared/boxes/volume-places.ts';
import { canonicalReference } from '../../../shared/images/reference.ts';
import type { BoxSpec } from '../driver-contract.ts';
import type { EngineBoxOptions } from './engine.ts';

/** The directory in every box with the host's busybox. guest/guest-scripts.ts covers it with a memory file system. */
export const toolsPath = '/.boxrun';

/** The kernel, the guest agent and the page cache need this much. With less memory, the VM often does not start. */
const memoryMbLeast = 128;
const cpuMost = 255;

/**
 * The script of process 1 in the box. It adopts orphans. The box ends when process 1 ends, so the command of the image
 * is not used here: it would end most boxes at once. The engine sends TERM to shut the box down.
 */
const initScript = 'trap "exit 0" TERM; while :; do sleep 2000000 & wait; done';

/** @throws RUNTIME_ERROR, VALIDATION_ERROR with the value that a micro-VM cannot have */
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
 * Returns the variables without those that the engine itself would read. For example, with `BOXLITE_EXECUTOR` the
 * engine runs a command outside of the box.
 */
export function boxEnvironment(env: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(env).filter(([name]) => !/^(BOXLITE|BOXRUN)_/.test(name));
}

/** @param toolsDir the directory on the host that prepareTools made */
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
    // The workdir may be missing in the image, and then the engine would not start the box. So each command changes its
    // directory itself.
    workingDir: '/',
    env: boxEnvironment(spec.env).map(([key, value]) => ({ key, value })),
    // The engine calls the first volume `uservol0`. guest/guest-control.ts finds the tools by this name.
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
    // With `detach`, the box goes on when the worker dies.
    detach: true,
    autoRemove: false,
    autoResume: false,
    security: {
      jailerEnabled: true,
      // The engine's file server for volumes makes system calls that the engine's own filter forbids (for example
      // statfs). With the filter, a `df` in a box with volumes would kill the VM. The namespaces of the jail stay.
      seccompEnabled: !hasVolumes,
    },
  };
}
