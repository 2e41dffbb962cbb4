// The BoxLite driver: one box as one micro-VM. It owns the VM that is live now, if there is one. Only this VM gets
// commands, and only its unexpected end is reported. docs/boxlite-driver.md explains the driver.
import { join } from 'node:path';
import { withDeadline } from '../../../shared/waiting/clock.ts';
import { BoxRunError } from '../../../shared/errors.ts';
import { limits } from '../../../shared/limits.ts';
import type { AgentMode } from '../../../shared/settings/config.ts';
import type { BoxMetrics, Driver, DriverContext } from '../driver-contract.ts';
import { bootBox } from './vm/vm-boot.ts';
import { createBoxHome, type BoxHome } from './home/box-home.ts';
import { checkSpec, engineOptions, toolsPath } from './box-options.ts';
import { engineError } from './engine-errors.ts';
export { loadEngine } from './engine.ts';
import { hasEngineRecords, prepareTools } from './home/host-files.ts';
import { pullImage } from './home/image-pull.ts';
import { takeOverVm, type LiveVm } from './vm/live-vm.ts';
import { findVmProcesses, vmUsage } from './home/vm-processes.ts';

export interface BoxliteOptions {
  /** Registries that the engine asks over plain http, as host:port. */
  readonly insecureRegistries: readonly string[];
  /** The directory for the engine's own programs. Null: the engine's default. */
  readonly runtimeDir: string | null;
  readonly agent: AgentMode;
}

/**
 * The time of /bin/true on a host with working KVM: a command over the engine's connection, and the start of the
 * process. hold.ts takes it as its first estimate.
 */
const shortExecMs = 40;
const engineStopMs = 30_000;
const unknownStats = {
  diskUsedBytes: null,
  diskSizeBytes: null,
  processes: null,
  networkReceivedBytes: null,
  networkSentBytes: null,
} as const;

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
  /** After this, the end of the VM is expected. The caller ends the VM, or leaves it to the next worker. */
  const releaseLive = (): LiveVm | null => {
    const vm = live;
    live = null;
    vm?.release();
    return vm;
  };

  async function metrics(): Promise<BoxMetrics> {
    running();
    const shim = (await findVmProcesses(homeDir)).find((each) => each.isShim);
    if (shim === undefined) throw new BoxRunError('BOX_NOT_RUNNING', `box ${spec.boxId} is not running`);
    return vmUsage(shim);
  }

  return {
    shortExecMs,
    busyboxPath: `${toolsPath}/busybox`,
    agentPath: `${toolsPath}/agent`,
    get outputIsExact() {
      return live?.byAgent.hasAgent ?? false;
    },
    get agentUse() {
      return live?.byAgent.use ?? null;
    },
    async prepareImage(progress, signal) {
      if (spec.image.kind === 'layout') return;
      const runtime = await home.open();
      // A box that exists already needs its disk. If the disk is missing, the call fails before it pulls the image.
      if (spec.engineId !== undefined && spec.engineId !== null) await home.box();
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
      live = await bootBox({ context, home, agentMode: options.agent, onLost, progress, signal });
    },
    async reattach() {
      live ??= await adopt(context, home, options.agent, onLost);
      return live === null ? 'stopped' : 'running';
    },
    exec: async (request) => running().exec(checkExecId(request)),
    foundExecs: async () => running().foundExecs(),
    heldExecs: async () => running().byAgent.heldExecs(),
    resumeExec: async (execId, committed) => running().byAgent.resume(execId, committed),
    killStrayExecs: async (finished, kept = new Set()) => running().killStrayExecs(finished, kept),
    async stop(graceMs) {
      const vm = releaseLive();
      await stopVm(context, home, vm, graceMs);
      vm?.announceEnd('the box was stopped');
    },
    async remove(graceMs = 0) {
      const vm = releaseLive();
      if (graceMs > 0) await endCommands(context, vm, graceMs);
      await home.remove();
      vm?.announceEnd('the box was removed');
    },
    metrics,
    // What happens inside of the VM, only the guest knows, and each question to it would start a command in the box.
    stats: async () => ({ ...(await metrics()), ...unknownStats }),
    async close() {
      releaseLive();
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

/** Takes over the VM of a dead worker. Returns null when no VM can be used; then no process of a VM is left. */
async function adopt(
  context: DriverContext,
  home: BoxHome,
  agentMode: AgentMode,
  onLost: (vm: LiveVm, reason: string) => void,
): Promise<LiveVm | null> {
  if ((await home.isVmAlive()) && (await hasEngineRecords(context.homeDir))) {
    try {
      const box = await home.box();
      if ((await box.info()).state.running) {
        return await takeOverVm({
          ...{ context, home, box, setUpTimeoutMs: limits.adoptTimeoutMs, isAdopted: true, agentMode, onLost },
        });
      }
      context.log.warn({ engineId: box.id }, 'a VM runs, but the engine says that it is stopped');
    } catch (error) {
      context.log.warn({ err: error }, 'the running VM cannot be used');
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
  // The id becomes the name of a cgroup's directory.
  if (/^[A-Za-z0-9_-]{1,100}$/.test(request.execId)) return request;
  throw new BoxRunError('VALIDATION_ERROR', `'${request.execId}' is no valid id of an exec`);
}
