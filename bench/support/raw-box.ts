// The reference for boxes: the same bundle, disk and mounts as in BoxRun, started and ended with the OCI runtime in a
// bare loop. There is no row in the database and no worker.
import { tmpdir } from 'node:os';
import { closeSync, mkdirSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { newId } from '../../src/shared/ids.ts';
import { resolveImage } from '../../src/shared/images/store.ts';
import { limits } from '../../src/shared/limits.ts';
import { boxHome, statePaths } from '../../src/shared/settings/state-dir.ts';
import {
  bootBox,
  stopBoxProcesses,
  makeHome,
  type BootOptions,
} from '../../src/worker/drivers/container/box/container-boot.ts';
import { sharedRange } from '../../src/shared/host/id-ranges.ts';
import { createBoxCgroups } from '../../src/worker/drivers/container/host/cgroups.ts';
import { createDisk, diskReleased } from '../../src/worker/drivers/container/disk/disk.ts';
import { createImagePreparer } from '../../src/worker/drivers/container/images/root-images.ts';
import { startMonitor, watchAlive, type RunningBox } from '../../src/worker/drivers/container/box/monitor.ts';
import { boxPaths, cgroupOf, type BoxPaths } from '../../src/worker/drivers/container/paths.ts';
import { tryRuntime } from '../../src/worker/drivers/container/host/host-probe.ts';
import { chooseRuntime } from '../../src/worker/drivers/container/host/runtime.ts';
import { ensureBoxTools } from '../../src/worker/drivers/container/host/tools.ts';

export interface RawBoxes {
  /** Makes the files, the disk and the init of a new box. */
  create(): Promise<RawContainer>;
  /** Makes the files and the disk of a new box, so that a later `start` measures only the rest. */
  prepare(): Promise<RawContainer>;
}

export interface RawContainer {
  readonly boxId: string;
  /** Makes the mounts, the namespaces and the init. */
  start(): Promise<void>;
  /** Kills the box, and waits until nothing runs and nothing is mounted. */
  stop(): Promise<void>;
  remove(): Promise<void>;
}

const notCanceled = new AbortController().signal;

/** Makes boxes of the built-in image in the state directory of a server, with their own control groups. */
export async function createRawBoxes({
  stateDir,
  instanceId,
}: {
  readonly stateDir: string;
  readonly instanceId: string;
}): Promise<RawBoxes> {
  const { imagesDir, boxesDir } = statePaths(stateDir);
  mkdirSync(boxesDir, { recursive: true });
  const source = await resolveImage(imagesDir, 'base');
  const preparer = createImagePreparer({ imagesDir, insecureRegistries: [], shift: sharedRange });
  const { rootfsDir } = await preparer.prepare(source, () => undefined, notCanceled);
  const tools = await ensureBoxTools(imagesDir);
  const runtime = await chooseRuntime((candidate) => tryRuntime(candidate, tmpdir()));

  async function make(): Promise<{ boot: BootOptions; containerOf: (running: RunningBox | null) => RawContainer }> {
    const boxId = newId('box');
    const paths = boxPaths(boxHome(stateDir, boxId));
    const names = cgroupOf(instanceId, boxId);
    const cgroups = createBoxCgroups(names);
    const spec = {
      boxId,
      image: source,
      cpu: 1,
      memoryMb: 128,
      diskSizeGb: 1,
      network: false,
      workdir: '/root',
      env: {},
      volumes: [],
    };
    await makeHome(spec, paths);
    const disk = await createDisk(paths, imagesDir, spec.diskSizeGb);
    const boot: BootOptions = {
      spec,
      volumeRoots: [],
      paths,
      cgroups,
      cgroup: names.box,
      runtime,
      tools,
      rootfsDir,
      disk,
      limits: [],
      onSharedIds: () => undefined,
    };
    const monitor = { boxId, paths, runtime, tools, rootfsDir, disk, ownIds: null };
    /** Wraps a started box, or one that is not started yet (null). */
    const containerOf = (first: RunningBox | null): RawContainer => {
      let running = first;
      return {
        boxId,
        async start() {
          rmSync(paths.runtimeRoot, { recursive: true, force: true });
          cgroups.prepare();
          running = await withReaderOfFifo(paths, () => startMonitor(monitor, notCanceled));
        },
        async stop() {
          if (running !== null)
            await stopBoxProcesses({ ...running, network: null, runtime: runtime.name }, cgroups, 0);
          running = null;
          await diskReleased(paths, limits.killTimeoutMs);
        },
        async remove() {
          await this.stop();
          cgroups.removeParent();
          await rm(paths.home, { recursive: true, force: true });
        },
      };
    };
    return { boot, containerOf };
  }

  return {
    async create() {
      const { boot, containerOf } = await make();
      return containerOf(await withReaderOfFifo(boot.paths, () => bootBox(boot, notCanceled)));
    },
    async prepare() {
      const { boot, containerOf } = await make();
      // The first start writes the bundle and the first directories on the disk.
      const made = containerOf(await withReaderOfFifo(boot.paths, () => bootBox(boot, notCanceled)));
      await made.stop();
      return made;
    },
  };
}

/** Opens the other end of the FIFO of the monitor during `start`. Without it the monitor would block. */
async function withReaderOfFifo<T>(paths: BoxPaths, start: () => Promise<T>): Promise<T> {
  const { fd } = watchAlive(paths);
  try {
    return await start();
  } finally {
    closeSync(fd);
  }
}
