// A box as a micro-VM of BoxLite: one home and one runtime for its life. Composes the parts of this folder; owns the
// state of the VM as this process knows it. Nothing is ever asked of the engine about a box that is not running: it would
// boot it. docs/boxlite-driver.md says how it all works.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { withDeadline } from '../../../shared/clock.ts';
import { BoxRunError, errorText } from '../../../shared/errors.ts';
import { limits } from '../../../shared/limits.ts';
import type { Driver, DriverContext, ExecHandle, ExecRequest, ReportProgress } from '../driver.ts';
import { boxEnvironment, checkSpec, engineOptions } from './box-options.ts';
import { wrapCommand } from './command.ts';
import { diagnose } from './diagnosis.ts';
import { openEngine, type EngineBox, type EngineExec, type EngineRuntime } from './engine.ts';
import { engineError, saysNotRunning } from './engine-errors.ts';
import { createExecHandle } from './exec.ts';
import { createGuestControl, type GuestControl } from './guest-control.ts';
import { hasEngineRecords, prepareHome, prepareTools, removeHome, socketLink } from './host-files.ts';
import { pullImage } from './image-pull.ts';
import { findVmProcesses, killVmProcesses, vmUsage } from './vm-processes.ts';
import { watchVm, type VmWatch } from './vm-watch.ts';

export interface BoxliteOptions {
  readonly insecureRegistries: readonly string[];
  /** Where the engine keeps its own programs; its default where null. */
  readonly runtimeDir: string | null;
}

/** One boot of the VM, from the moment it answers. */
interface LiveVm {
  box: EngineBox;
  readonly guest: GuestControl;
  readonly watch: VmWatch;
  /** Resolves with the reason when it has ended. */
  readonly ended: Promise<string>;
  readonly end: (reason: string) => void;
}

/** Process start and exec over the engine's connection, on a host whose KVM works. */
const shortExecMs = 40;
const engineStopMs = 30_000;
const setUpMs = 20_000;
const stopStartMs = 5_000;

export function createBoxliteDriver(context: DriverContext, options: BoxliteOptions): Driver {
  const { spec, homeDir, imagesDir, log } = context;
  let runtime: Promise<EngineRuntime> | null = null;
  let live: LiveVm | null = null;

  function openRuntime(): Promise<EngineRuntime> {
    const opening = runtime ?? prepareHome(homeDir, imagesDir).then(() => openEngine({ homeDir, ...options }));
    runtime = opening;
    opening.catch(() => {
      if (runtime === opening) runtime = null;
    });
    return opening;
  }

  async function engineBox(): Promise<EngineBox> {
    const box = await (await openRuntime()).get(spec.boxId);
    if (box === null) throw new BoxRunError('RUNTIME_ERROR', `the engine has no box ${spec.boxId} in its home`);
    return box;
  }

  const boxDir = (engineId: string) => join(homeDir, 'boxes', engineId);
  const isVmAlive = async () => (await findVmProcesses(homeDir)).some((each) => each.isShim);

  /** Takes a VM that has booted into use: from here on its end is noticed. */
  async function takeOver(box: EngineBox, setUpTimeoutMs: number): Promise<void> {
    let announceEnd: (reason: string) => void = () => undefined;
    const ended = new Promise<string>((resolve) => {
      announceEnd = resolve;
    });
    const guest = createGuestControl({ box: () => vm.box, boxDir: boxDir(box.id), network: spec.network });
    const watch = watchVm({
      socketPath: join(socketLink(box.id), 'box.sock'),
      isVmAlive,
      onEnd: () => void lose(vm, null),
    });
    const vm: LiveVm = { box, guest, watch, ended, end: announceEnd };
    try {
      await guest.setUp(setUpTimeoutMs);
    } catch (error) {
      watch.stop();
      throw engineError(error, 'preparing the box');
    }
    live = vm;
  }

  /** The VM has ended, or cannot be used any more, without anybody having asked. */
  async function lose(vm: LiveVm, known: string | null): Promise<void> {
    if (live !== vm) return;
    live = null;
    vm.watch.stop();
    const { reason, logs } = await diagnose(boxDir(vm.box.id));
    const words = known ?? reason;
    log.error({ engineId: vm.box.id, reason: words, ...logs }, 'the VM has ended');
    await killLeftovers('the VM ended');
    vm.end(words);
    context.onEngineExit(words);
  }

  async function killLeftovers(when: string): Promise<void> {
    const killed = await killVmProcesses(homeDir).catch((error: unknown) => {
      log.error({ err: error, when }, 'processes of the VM are left');
      throw error;
    });
    if (killed > 0) log.warn({ killed, when }, 'killed processes of the VM that were left');
  }

  async function bootVm(box: EngineBox, timeoutMs: number, signal: AbortSignal): Promise<void> {
    const canceled = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new BoxRunError('CANCELED', 'starting the box was canceled')), { once: true });
    });
    const booting = box.start();
    // The engine cannot be told to give up: should it succeed after all, nobody wants the VM.
    booting.then(() => (signal.aborted ? killVmProcesses(homeDir) : 0)).catch(() => undefined);
    await withDeadline(Promise.race([booting, canceled]), timeoutMs, 'starting the VM');
  }

  async function start(progress: ReportProgress, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await checkSpec(spec);
    await prepareTools(imagesDir);
    const box = await engineBox();
    await killLeftovers('before a start');
    const dir = boxDir(box.id);
    // Evidence of an earlier end would be taken for this one's.
    await rm(join(dir, 'exit.previous'), { force: true });
    const isFirst = (await box.info()).startedAt === undefined;
    if (isFirst) progress('unpack', 'preparing the disk from the image');
    else progress('start', 'booting the VM');
    try {
      await bootVm(box, isFirst ? limits.imagePrepareTimeoutMs : limits.boxStartTimeoutMs, signal);
      progress('start', 'the VM is up');
      await takeOver(box, setUpMs);
    } catch (error) {
      const { logs } = await diagnose(dir);
      log.error({ err: error, engineId: box.id, ...logs }, 'the VM did not start');
      await withDeadline(box.stop(), stopStartMs, 'stopping the VM').catch(() => undefined);
      await killLeftovers('after a failed start');
      throw engineError(error, 'starting the box');
    }
  }

  async function startExec(vm: LiveVm, request: ExecRequest): Promise<EngineExec> {
    const env = new Map([...boxEnvironment(spec.env), ...boxEnvironment(request.env)]);
    if (request.tty !== null && !env.has('TERM')) env.set('TERM', request.tty.term);
    const { program, args, env: variables } = wrapCommand({
      execId: request.execId, cmd: request.cmd, workdir: request.workdir ?? spec.workdir, size: request.tty, env: [...env],
    });
    const begin = () => vm.box.exec(program, args, variables, request.tty !== null, request.user, null, '/');
    try {
      return await begin();
    } catch (error) {
      if (!saysNotRunning(error)) throw engineError(error, 'starting the command');
      // Either the handle is spent, or the engine believes the VM to be gone; then it would boot another one.
      const box = await engineBox();
      if ((await box.info()).state.running) {
        vm.box = box;
        return begin().catch((again: unknown) => {
          throw engineError(again, 'starting the command');
        });
      }
      await lose(vm, `the engine lost the VM: ${errorText(error).split('.', 1)[0]}`);
      throw new BoxRunError('BOX_NOT_RUNNING', 'the VM of the box has ended', { cause: error });
    }
  }

  function running(): LiveVm {
    if (live !== null) return live;
    throw new BoxRunError('BOX_NOT_RUNNING', `box ${spec.boxId} is not running`);
  }

  async function exec(request: ExecRequest): Promise<ExecHandle> {
    if (!/^[A-Za-z0-9_-]+$/.test(request.execId)) throw new BoxRunError('VALIDATION_ERROR', `'${request.execId}' cannot be an exec id`);
    const vm = running();
    const engineExec = await startExec(vm, request);
    return createExecHandle({
      request,
      exec: engineExec,
      killTree: async () => {
        if (live === vm) await vm.guest.killExec(request.execId);
      },
      engineEnd: vm.ended,
      isVmAlive: async () => live === vm && (await isVmAlive()),
      onExit: () => vm.guest.forget(request.execId),
    });
  }

  async function stop(graceMs: number): Promise<void> {
    const vm = live;
    live = null;
    vm?.watch.stop();
    if (vm !== null) {
      await vm.guest.endCommands(graceMs).catch((error: unknown) => {
        log.warn({ err: error }, 'commands could not be asked to end');
      });
    }
    if (await isVmAlive()) {
      const box = await engineBox();
      await withDeadline(box.stop(), engineStopMs, 'stopping the VM').catch((error: unknown) => {
        log.warn({ err: error }, 'the engine did not stop the VM');
      });
    }
    await killLeftovers('after a stop');
    vm?.end('the box was stopped');
  }

  async function reattach(): Promise<'running' | 'stopped'> {
    if (live !== null) return 'running';
    if ((await isVmAlive()) && (await hasEngineRecords(homeDir))) {
      try {
        const box = await engineBox();
        if ((await box.info()).state.running) {
          await takeOver(box, limits.adoptTimeoutMs);
          return 'running';
        }
        log.warn({ engineId: box.id }, 'a VM runs that the engine does not know of');
      } catch (error) {
        log.warn({ err: error }, 'the VM that runs cannot be used');
      }
    }
    await killLeftovers('when re-attaching');
    return 'stopped';
  }

  async function remove(): Promise<void> {
    const vm = live;
    live = null;
    vm?.watch.stop();
    if (runtime !== null) {
      const engine = await runtime.catch(() => null);
      await killLeftovers('before the removal');
      const gone = engine?.remove(spec.boxId, true) ?? Promise.resolve();
      await withDeadline(gone, engineStopMs, 'removing the box').catch((error: unknown) => {
        log.debug({ err: error }, 'the engine did not remove the box');
      });
      engine?.close();
      runtime = null;
    }
    await killLeftovers('after the removal');
    await removeHome(homeDir);
    vm?.end('the box was removed');
  }

  return {
    shortExecMs,
    async prepareImage(progress, signal) {
      if (spec.image.kind === 'layout') return;
      await pullImage({ runtime: await openRuntime(), reference: spec.image.reference, imagesDir: join(homeDir, 'images'), progress, signal });
    },
    async create(progress, signal) {
      signal.throwIfAborted();
      await checkSpec(spec);
      progress('create', 'creating the box');
      const engine = await openRuntime();
      const present = await engine.getInfo(spec.boxId);
      if (present !== null) return { engineId: present.id };
      const box = await engine.create(engineOptions(spec, await prepareTools(imagesDir)), spec.boxId).catch((error: unknown) => {
        throw engineError(error, 'creating the box');
      });
      return { engineId: box.id };
    },
    start,
    reattach,
    exec,
    async killStrayExecs(finished) {
      await running().guest.killStrayExecs(finished);
    },
    stop,
    remove,
    async metrics() {
      running();
      const shim = (await findVmProcesses(homeDir)).find((each) => each.isShim);
      if (shim === undefined) throw new BoxRunError('BOX_NOT_RUNNING', `box ${spec.boxId} is not running`);
      return vmUsage(shim);
    },
    async close() {
      live?.watch.stop();
      live = null;
    },
  };
}
