// One boot of a box's VM, from the moment at which it answers to its end. It starts commands in the VM, and notices
// when the VM has ended. After it has noticed the end, it sends no more scripts to the VM. Only a command that
// fails asks the engine once more whether the box still runs.
import { join } from 'node:path';
import type { AgentMode } from '../../../../shared/settings/config.ts';
import { createVmCommands, type VmCommands } from '../agent/vm-commands.ts';
import type { BoxSpec, DriverContext, ExecHandle, ExecRequest } from '../../driver-contract.ts';
import type { BoxHome } from '../home/box-home.ts';
import { commandOrRefusal } from '../../argument-list.ts';
import { boxEnvironment, toolsPath } from '../box-options.ts';
import { wrapCommand, type WrappedCommand } from '../guest/guest-command.ts';
import { diagnose } from './diagnosis.ts';
import { createEngineHandle } from './engine-handle.ts';
import type { EngineBox } from '../engine.ts';
import { engineError } from '../engine-errors.ts';
import { createExecHandle } from '../guest/engine-exec.ts';
import { createGuestControl } from '../guest/guest-control.ts';
import { socketLink } from '../home/host-files.ts';
import { watchVm } from './vm-watch.ts';

/** Connections from the VM to the agent's port arrive at this socket of the box. */
const agentSocket = 'ready.sock';

export interface LiveVm {
  /** @throws BOX_NOT_RUNNING when the VM has ended */
  exec(request: ExecRequest): Promise<ExecHandle>;
  foundExecs(): Promise<string[]>;
  /** Commands that go over the agent. */
  readonly byAgent: Pick<VmCommands, 'hasAgent' | 'heldExecs' | 'resume' | 'use'>;
  killStrayExecs(finished: ReadonlySet<string>, kept: ReadonlySet<string>): Promise<void>;
  /** Sends TERM to all commands, and KILL after `graceMs` milliseconds. */
  endCommands(graceMs: number): Promise<void>;
  /**
   * From now on, the end of the VM is expected, and `onLost` is not called any more. `endCommands` may still be called
   * after it.
   */
  release(): void;
  /** Ends the handles of all commands that still run. They report `reason` as the cause of their end. */
  announceEnd(reason: string): void;
}

export interface LiveVmOptions {
  readonly context: DriverContext;
  readonly home: BoxHome;
  readonly box: EngineBox;
  readonly setUpTimeoutMs: number;
  /** True: the VM is that of a dead worker, whose agent may live on. */
  readonly isAdopted: boolean;
  readonly agentMode: AgentMode;
  /** The VM has ended by itself, and no process of it is left. Called at most once, and never after `release`. */
  readonly onLost: (vm: LiveVm, reason: string) => void;
}

/**
 * Takes over a VM that the engine has just booted, or that a dead worker left.
 * @throws RUNTIME_ERROR, TIMEOUT when the VM does not answer within `setUpTimeoutMs`
 */
export async function takeOverVm(options: LiveVmOptions): Promise<LiveVm> {
  const { context, home, box: firstBox, setUpTimeoutMs, isAdopted, agentMode, onLost } = options;
  const { spec, log } = context;
  const boxDir = home.boxDir(firstBox.id);
  let released = false;
  let announceEnd: (reason: string) => void = () => undefined;
  const ended = new Promise<string>((resolve) => {
    announceEnd = resolve;
  });
  const engine = createEngineHandle(firstBox, home, log, () => handleLoss('the engine lost track of the VM'));
  const guest = createGuestControl({ box: () => engine.box, boxDir, network: spec.network });
  const first = await guest.setUp(setUpTimeoutMs).catch((error: unknown) => {
    throw engineError(error, 'preparing the box');
  });
  const commands = createVmCommands(agentMode, {
    ...{ context, first, engineEnd: ended, killExec },
    hasProcesses: (execId) => guest.hasProcesses(execId),
    box: () => engine.box,
    socketPath: join(socketLink(firstBox.id), agentSocket),
    isReleased: () => released,
  });
  const watch = watchVm({
    socketPath: join(socketLink(firstBox.id), 'box.sock'),
    isVmAlive: home.isVmAlive,
    onEnd: () => void handleLoss(null),
  });

  /** @param knownReason null: the reason is looked up in the files of the engine */
  async function handleLoss(knownReason: string | null): Promise<void> {
    if (released) return;
    release();
    const { reason: foundReason, logs } = await diagnose(boxDir);
    const reason = knownReason ?? foundReason;
    log.error({ engineId: engine.box.id, reason, ...logs }, 'the VM has ended');
    await home.killLeftovers('the VM ended').catch((error: unknown) => {
      log.error({ err: error }, 'processes of the VM could not be killed');
    });
    vm.announceEnd(reason);
    onLost(vm, reason);
  }

  async function killExec(execId: string): Promise<void> {
    await engine
      .use(() => guest.killExec(execId))
      .then(() => guest.commandEnded(execId))
      .catch((error: unknown) => {
        if (!released) throw error; // Otherwise the VM has ended.
      });
  }

  function release(): void {
    released = true;
    watch.stop();
  }

  const vm: LiveVm = {
    byAgent: commands,
    async exec(request) {
      const command = commandOf(spec, request);
      const byAgent = await commands.start(request, command);
      if (byAgent !== null) return byAgent;
      const { program, args, env } = wrapCommand(command);
      const isTerminal = request.tty !== null;
      const exec = await engine
        .use((box) => box.exec(program, args, env, isTerminal, request.user, null, '/'))
        .catch((error: unknown) => {
          throw engineError(error, 'starting the command');
        });
      return createExecHandle({
        request,
        exec,
        killTree: async () => {
          if (!released) await guest.killExec(request.execId);
        },
        hasChildren: async () => !released && (await guest.hasProcesses(request.execId)),
        engineEnd: ended,
        isVmAlive: async () => !released && (await home.isVmAlive()),
        onExit: () => guest.commandEnded(request.execId),
      });
    },
    foundExecs: () => guest.foundExecs(),
    async killStrayExecs(finished, kept) {
      await commands.endOthers(kept);
      await guest.killStrayExecs(finished, kept);
    },
    endCommands: (graceMs) => guest.endCommands(graceMs),
    release,
    announceEnd(reason) {
      announceEnd(reason);
      commands.close(reason);
    },
  };
  await commands.begin(isAdopted);
  return vm;
}

function commandOf(spec: BoxSpec, request: ExecRequest): WrappedCommand {
  const env = new Map([...boxEnvironment(spec.env), ...boxEnvironment(request.env)]);
  if (request.tty !== null && !env.has('TERM')) env.set('TERM', request.tty.term);
  const asked = { cmd: request.cmd, workdir: request.workdir ?? spec.workdir, env: Object.fromEntries(env) };
  const command = commandOrRefusal(asked, [], `${toolsPath}/busybox`, 'boxrun');
  const isOwnDirectory = request.workdir === null;
  return {
    ...command,
    execId: request.execId,
    isOwnDirectory,
    size: request.tty,
    env: Object.entries(command.env),
  };
}
