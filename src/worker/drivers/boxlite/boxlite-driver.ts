// A box as a micro-VM of BoxLite: one home and one runtime for its life. Composes the parts of this folder; owns which
// VM is the live one. docs/boxlite-driver.md says how it all works.
import { join } from 'node:path';
import { withDeadline } from '../../../shared/waiting/clock.ts';
import { BoxRunError } from '../../../shared/errors.ts';
import { limits } from '../../../shared/limits.ts';
import type { Driver, DriverContext } from '../driver-contract.ts';
import { bootBox } from './vm/vm-boot.ts';
import { createBoxHome, type BoxHome } from './home/box-home.ts';
import { checkSpec, engineOptions, toolsPath } from './box-options.ts';
import { engineError } from './engine-errors.ts';
export { loadEngine } from './engine.ts';
import { hasEngineRecords, prepareTools } from './home/host-files.ts';
import { pullImage } from './home/image-pull.ts';
import { takeOverVm, type LiveVm } from './vm/live-vm.ts';
import { findVmProcesses, vmUsage } from './vm/vm-processes.ts';

export interface BoxliteOptions {
  /** Registries reached over plain http, as host:port. */
  readonly insecureRegistries: readonly string[];
  /** Where the engine keeps its own programs; its default where null. */
  readonly runtimeDir: string | null;
}

/** Process start and exec over the engine's connection, on a host whose KVM works. */
const shortExecMs = 40;
const engineStopMs = 30_000;

export function createBoxliteDriver(context: DriverContext, options: BoxliteOptions): Driver {
  const { spec, homeDir } = context;
  const home = createBoxHome(context, options);
  let live: LiveVm | null = null;

  const onLost = (vm: LiveVm, reason: string) => {
    if (live === vm) live = null;
    context.onEngineExit(reason);
  };
  const running = (): LiveVm => {
    if (live !== null) return live;
    throw new BoxRunError('BOX_NOT_RUNNING', `box ${spec.boxId} is not running`);
  };
  /** Whoever takes it answers for its end. */
  const takeLive = (): LiveVm | null => {
    const vm = live;
    live = null;
    vm?.release();
    return vm;
  };

  return {
    shortExecMs,
    busyboxPath: `${toolsPath}/busybox`,
    outputIsExact: false,
    async prepareImage(progress, signal) {
      if (spec.image.kind === 'layout') return;
      const runtime = await home.open();
      if (spec.engineId !== undefined && spec.engineId !== null) await home.box(); // Without its disk no image helps.
      await pullImage({
        runtime,
        reference: spec.image.reference,
        imagesDir: join(homeDir, 'images'),
        progress,
        signal,
      });
    },
    async create(progress, signal) {
      signal.throwIfAborted();
      await checkSpec(spec);
      progress('create', 'creating the box');
      return createEngineBox(context, home);
    },
    async start(progress, signal) {
      live = await bootBox({ context, home, onLost, progress, signal });
    },
    async reattach() {
      live ??= await adopt(context, home, onLost);
      return live === null ? 'stopped' : 'running';
    },
    exec: async (request) => running().exec(checkExecId(request)),
    foundExecs: async () => running().foundExecs(),
    killStrayExecs: async (finished) => running().killStrayExecs(finished),
    async stop(graceMs) {
      const vm = takeLive();
      await stopVm(context, home, vm, graceMs);
      vm?.end('the box was stopped');
    },
    async remove(graceMs = 0) {
      const vm = takeLive();
      if (graceMs > 0) await endCommands(context, vm, graceMs);
      await home.remove();
      vm?.end('the box was removed');
    },
    async metrics() {
      running();
      const shim = (await findVmProcesses(homeDir)).find((each) => each.isShim);
      if (shim === undefined) throw new BoxRunError('BOX_NOT_RUNNING', `box ${spec.boxId} is not running`);
      return vmUsage(shim);
    },
    async close() {
      takeLive();
    },
  };
}

async function createEngineBox({ spec, imagesDir }: DriverContext, home: BoxHome): Promise<{ engineId: string }> {
  const runtime = await home.open();
  const present = await runtime.getInfo(spec.boxId);
  if (present !== null) return { engineId: present.id };
  const toolsDir = await prepareTools(imagesDir);
  const box = await runtime.create(engineOptions(spec, toolsDir), spec.boxId).catch((error: unknown) => {
    throw engineError(error, 'creating the box');
  });
  return { engineId: box.id };
}

/** The VM that a predecessor left, or null when there is none that can be used; nothing is left of it then. */
async function adopt(
  context: DriverContext,
  home: BoxHome,
  onLost: (vm: LiveVm, reason: string) => void,
): Promise<LiveVm | null> {
  if ((await home.isVmAlive()) && (await hasEngineRecords(context.homeDir))) {
    try {
      const box = await home.box();
      if ((await box.info()).state.running) {
        return await takeOverVm({ context, home, box, setUpTimeoutMs: limits.adoptTimeoutMs, onLost });
      }
      context.log.warn({ engineId: box.id }, 'a VM runs that the engine does not know of');
    } catch (error) {
      context.log.warn({ err: error }, 'the VM that runs cannot be used');
    }
  }
  await home.killLeftovers('when re-attaching');
  return null;
}

async function endCommands({ log }: DriverContext, vm: LiveVm | null, graceMs: number): Promise<void> {
  await vm?.endCommands(graceMs).catch((error: unknown) => {
    log.warn({ err: error }, 'commands could not be asked to end');
  });
}

async function stopVm(context: DriverContext, home: BoxHome, vm: LiveVm | null, graceMs: number): Promise<void> {
  const { log } = context;
  await endCommands(context, vm, graceMs);
  if (await home.isVmAlive()) {
    const box = await home.box();
    await withDeadline(box.stop(), engineStopMs, 'stopping the VM').catch((error: unknown) => {
      log.warn({ err: error }, 'the engine did not stop the VM');
    });
  }
  await home.killLeftovers('after a stop');
}

function checkExecId<T extends { readonly execId: string }>(request: T): T {
  // It names a directory in the box.
  if (/^[A-Za-z0-9_-]{1,100}$/.test(request.execId)) return request;
  throw new BoxRunError('VALIDATION_ERROR', `'${request.execId}' cannot be the id of an exec`);
}
