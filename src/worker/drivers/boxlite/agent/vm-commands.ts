// Commands of one VM over its agent. It owns the agent of the VM, and how a command of the agent is killed. A null
// result means that nothing of the command has run, and that it takes the ordinary path.
import type { AgentUse } from '../../../../shared/api.ts';
import { sleep } from '../../../../shared/waiting/clock.ts';
import { BoxRunError, errorText } from '../../../../shared/errors.ts';
import { limits } from '../../../../shared/limits.ts';
import type { AgentMode } from '../../../../shared/settings/config.ts';
import { endFound, handleOf, handleOfStart, type CommandPlace } from '../../../agent/agent-handle.ts';
import { agentVersion } from '../../../agent/frames.ts';
import type { CommittedOutput, DriverContext, ExecExit, ExecHandle, ExecRequest } from '../../driver-contract.ts';
import { toolsPath } from '../box-options.ts';
import type { EngineBox } from '../engine.ts';
import type { WrappedCommand } from '../guest/guest-command.ts';
import type { FirstProcess } from '../guest/guest-control.ts';
import { withMemoryKills } from '../../memory-kills.ts';
import { createVmAgent, type VmAgent } from './vm-agent.ts';
import { orderOf } from './vm-exec.ts';

/** The vsock port that the engine uses for its notice of a boot. Afterwards it is free. */
const agentPort = 2696;

export interface VmCommandsOptions {
  readonly context: Pick<DriverContext, 'homeDir' | 'generation' | 'log' | 'spec'>;
  readonly box: () => EngineBox;
  /** Kills all processes of a command. */
  readonly killExec: (execId: string) => Promise<void>;
  readonly hasProcesses: (execId: string) => Promise<boolean>;
  /** Connections to the agent's port arrive at this socket. */
  readonly socketPath: string;
  readonly first: FirstProcess;
  /** Resolves with the reason when the VM has ended. */
  readonly engineEnd: Promise<string>;
  /** True when the VM takes no scripts any more. */
  readonly isReleased: () => boolean;
}

export interface VmCommands {
  /** True while commands go over the agent. */
  readonly hasAgent: boolean;
  /** The way that the next command takes. */
  readonly use: AgentUse;
  /** Takes over the agent of a dead worker, or starts one in the background. */
  begin(isAdopted: boolean): Promise<void>;
  /** @throws RUNTIME_ERROR, TIMEOUT */
  start(request: ExecRequest, command: WrappedCommand): Promise<ExecHandle | null>;
  /** Ids of commands of an earlier worker that the agent has kept. */
  heldExecs(): string[];
  /** @throws RUNTIME_ERROR when the agent does not have the command any more */
  resume(execId: string, committed: CommittedOutput): ExecHandle;
  /** Ends the input of commands of an earlier worker that do not go on. The caller then kills them. */
  endOthers(kept: ReadonlySet<string>): Promise<void>;
  /** The VM has ended. */
  close(reason: string): void;
}

/** Commands of a VM without an agent: all take the ordinary path. */
const noCommands: Omit<VmCommands, 'use'> = {
  hasAgent: false,
  begin: () => Promise.resolve(),
  start: () => Promise.resolve(null),
  heldExecs: () => [],
  resume() {
    throw new BoxRunError('RUNTIME_ERROR', 'the box has no agent');
  },
  endOthers: () => Promise.resolve(),
  close: () => undefined,
};

export function createVmCommands(mode: AgentMode, options: VmCommandsOptions): VmCommands {
  const { context, socketPath, box, first } = options;
  if (mode === 'off') return { ...noCommands, use: { way: 'none', reason: 'off' } };
  if (!first.hasAgent) return { ...noCommands, use: { way: 'none', reason: 'earlier_version' } };
  const { homeDir, generation, log } = context;
  const agent: VmAgent = createVmAgent({
    ...{ homeDir, socketPath, generation, log },
    launch: (token) => launchAgent(box(), token),
  });
  return {
    get hasAgent() {
      return agent.present !== null;
    },
    get use() {
      return agent.use;
    },
    async begin(isAdopted) {
      if (isAdopted) await agent.adopt();
      else agent.begin();
    },
    async start(request, command) {
      const line = await agent.ready();
      if (line === null) return null;
      const started = line.run(await orderOf(line, request, command, first), request.acknowledges ?? false);
      if (started === null) return null;
      const handle = await handleOfStart(placeOf(options, request.execId), request.execId, started, log);
      return handle === null ? null : withMemory(handle, context.spec.memoryMb);
    },
    heldExecs: () => [...(agent.present?.found.keys() ?? [])],
    resume(execId, committed) {
      const found = agent.present?.found.get(execId);
      if (found === undefined) throw new BoxRunError('RUNTIME_ERROR', 'the agent of the box has ended');
      found.resume([committed.stdout, committed.stderr]);
      return withMemory(handleOf(placeOf(options, execId), found), context.spec.memoryMb);
    },
    async endOthers(kept) {
      const found = [...(agent.present?.found ?? [])];
      await endFound(found.filter(([execId]) => !kept.has(execId)).map(([, command]) => command));
    },
    close(reason) {
      agent.close(reason);
    },
  };
}

/** The exit says that memory ran out, if the agent has counted that. */
function withMemory(handle: ExecHandle, memoryMb: number): ExecHandle {
  const exit = handle.exit.then((how) => withMemoryKills(how, handle.usage?.()?.oomKills ?? 0, memoryMb));
  return { ...handle, exit };
}

function placeOf(options: VmCommandsOptions, execId: string): CommandPlace {
  const { killExec, hasProcesses, isReleased } = options;
  const killTree = async () => {
    if (!isReleased()) await killExec(execId);
  };
  return {
    killTree,
    hasChildren: async () => !isReleased() && (await hasProcesses(execId)),
    killLost: (lost) => killLost(options, execId, lost),
    onEnd: () => undefined, // The agent removes the control group.
  };
}

/** If the VM is what has ended, the result says so. */
async function killLost(
  { context, engineEnd, killExec, isReleased }: VmCommandsOptions,
  execId: string,
  lost: ExecExit,
): Promise<ExecExit> {
  const killed = async () => {
    if (!isReleased())
      await killExec(execId).catch(async (error: unknown) => {
        await sleep(limits.connectTimeoutMs); // Most likely the VM is ending.
        context.log.error({ error: errorText(error), execId }, 'a command whose agent has ended could not be killed');
      });
    // If the VM is ending, its reason follows.
    if (isReleased()) await sleep(limits.killTimeoutMs);
    return lost;
  };
  return Promise.race([engineEnd.then((reason) => ({ lost: reason })), killed()]);
}

/** Starts the agent's program by an ordinary command of the engine, as root of the box. */
async function launchAgent(box: EngineBox, token: string): Promise<void> {
  const args = ['dial', String(agentVersion), String(agentPort), `${toolsPath}/cg`, `${toolsPath}/busybox`];
  const exec = await box.exec(`${toolsPath}/agent`, args, [], false, '0:0', null, '/');
  const stdin = await exec.stdin();
  await stdin.write(Buffer.from(`${token}\n`));
  await stdin.close();
  const { exitCode } = await exec.wait();
  if (exitCode !== 0) throw new Error(`the agent exited with ${exitCode}`);
}
