// The control of a VM by scripts in the VM. The box is a container in the VM; the scripts run beside it, as root of the
// VM. They prepare the VM after a boot, kill whole commands, and ask all processes to end. Each action is one script.
// This file owns the list of ended commands whose cgroups are not removed yet.
import { readdir } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { limits } from '../../../../shared/limits.ts';
import type { EngineBox, EngineExec } from '../engine.ts';
import { engineError } from '../engine-errors.ts';
import { toolsPath } from '../box-options.ts';
import {
  hasProcessesScript,
  killExecScript,
  killStraysScript,
  listScript,
  removeCgroupsScript,
  setUpScript,
  stopScript,
} from './guest-scripts.ts';

export interface GuestControl {
  /** Prepares the VM. Call it first after each boot and after each take-over. It also proves that the VM answers. */
  setUp(timeoutMs: number): Promise<FirstProcess>;
  /** Kills all processes of a command. Resolves when none is left. */
  killExec(execId: string): Promise<void>;
  /** True when a process of the command lives. */
  hasProcesses(execId: string): Promise<boolean>;
  /** Returns the ids of the commands that have a cgroup. */
  foundExecs(): Promise<string[]>;
  /** Kills all commands except those in `finished` and `kept`. */
  killStrayExecs(finished: ReadonlySet<string>, kept: ReadonlySet<string>): Promise<void>;
  /** Sends TERM to all processes, and KILL after `graceMs` milliseconds. Then flushes the disk. */
  endCommands(graceMs: number): Promise<void>;
  /** Call it when the leader of a command has ended. Its cgroup is then removed together with others. */
  commandEnded(execId: string): void;
}

/** What the first process of the box has from the image and from the box. */
export interface FirstProcess {
  readonly user: { readonly uid: number; readonly gid: number; readonly groups: readonly number[] };
  readonly env: readonly [string, string][];
  /** True when the box has the agent's program. */
  readonly hasAgent: boolean;
}

export interface GuestControlOptions {
  readonly box: () => EngineBox;
  /** The engine's directory of the box. */
  readonly boxDir: string;
  readonly network: boolean;
}

/** So many cgroups of ended commands are removed together. */
const removalCount = 32;
const stopStepMs = 50;
const controlTimeoutMs = 15_000;
/** Enough for the ids of all commands that a box can have at once. */
const outputTextMax = 1024 * 1024;
/** The engine's network forwards this address to 127.0.0.1 of the host. */
const engineHostAddress = '192.168.127.254/32';

export function createGuestControl({ box, boxDir, network }: GuestControlOptions): GuestControl {
  /** The path of busybox that setUp found. It is valid while the VM lives, even if the tools volume fails. */
  let busybox: string | null = null;
  let ended: string[] = [];
  let isRemoving = false;

  async function run(program: string, script: string, args: readonly string[], timeoutMs: number): Promise<string> {
    // With this variable, the engine's guest agent runs the command outside of the box.
    const env: [string, string][] = [['BOXLITE_EXECUTOR', 'guest']];
    const start = box().exec(program, ['sh', '-c', script, 'boxrun', ...args], env, false, null, null, '/');
    const exec = await withDeadline(start, timeoutMs, 'reaching the VM');
    void exec
      .stdin()
      .then((stdin) => stdin.close())
      .catch(() => undefined);
    const [stdout, stderr, end] = await withDeadline(
      Promise.all([readText(await exec.stdout()), readText(await exec.stderr()), exec.wait()]),
      timeoutMs,
      'an answer of the VM',
    );
    if (end.exitCode === 0) return stdout;
    throw new BoxRunError(
      'RUNTIME_ERROR',
      `the VM answered ${end.exitCode}: ${stderr.trim().split('\n').at(-1) ?? ''}`,
    );
  }

  async function control(script: string, args: readonly string[], timeoutMs = controlTimeoutMs): Promise<string> {
    if (busybox === null) throw new BoxRunError('BOX_NOT_RUNNING', 'the VM is not ready');
    return run(busybox, script, args, timeoutMs).catch((error: unknown) => {
      throw engineError(error, 'controlling the VM');
    });
  }

  async function removeCgroups(): Promise<void> {
    isRemoving = true;
    const ids = ended;
    ended = [];
    try {
      const left = await control(removeCgroupsScript, ids);
      ended.push(...left.split('\n').filter((id) => id !== ''));
    } catch {
      ended.push(...ids); // The next removal tries them again. The VM may be shutting down.
    } finally {
      isRemoving = false;
    }
  }

  return {
    async setUp(timeoutMs) {
      const container = (await readdir(join(boxDir, 'mounts', 'containers'))).at(0);
      if (container === undefined) throw new BoxRunError('RUNTIME_ERROR', 'the engine has made no container');
      const volume = `/run/boxlite/shared/containers/${container}/volumes/uservol0`;
      const said = await run(`${volume}/busybox`, setUpScript, [container, ...hostAddresses(network)], timeoutMs);
      busybox = `/proc/${Number(said.split('\n')[0])}/root${toolsPath}/busybox`;
      return firstProcessOf(said);
    },
    async killExec(execId) {
      await control(killExecScript, [execId], limits.killTimeoutMs);
    },
    async hasProcesses(execId) {
      return (await control(hasProcessesScript, [execId])).trim() === 'populated 1';
    },
    async foundExecs() {
      return (await control(listScript, [])).split('\n').filter((id) => id !== '');
    },
    async killStrayExecs(finished, kept) {
      await control(killStraysScript, [...finished, ...kept]);
      ended = [...finished];
    },
    async endCommands(graceMs) {
      await control(stopScript, [`${Math.ceil(graceMs / stopStepMs)}`], graceMs + controlTimeoutMs);
    },
    commandEnded(execId) {
      ended.push(execId);
      if (ended.length >= removalCount && ended.length % removalCount === 0 && !isRemoving) void removeCgroups();
    },
  };
}

/** Reads what the set-up script prints, in its order; pure. */
function firstProcessOf(said: string): FirstProcess {
  const lines = said.split('\n').slice(1);
  const numbers = (name: string) => {
    const line = lines.find((each) => each.startsWith(`${name}:`)) ?? '';
    return line
      .slice(name.length + 1)
      .split(/\s+/)
      .filter((each) => each !== '')
      .map(Number);
  };
  const hasAgent = lines.includes('agent');
  const isEncoded = (line: string) => !/^(Uid|Gid|Groups):/.test(line) && line !== 'agent';
  const environ = Buffer.from(lines.filter(isEncoded).join(''), 'base64').toString();
  const [, uid = 0] = numbers('Uid');
  const [, gid = 0] = numbers('Gid');
  const env = environ.split('\0').flatMap((entry): [string, string][] => {
    const equals = entry.indexOf('=');
    return equals > 0 ? [[entry.slice(0, equals), entry.slice(equals + 1)]] : [];
  });
  return { user: { uid, gid, groups: [...new Set([gid, ...numbers('Groups')])] }, env, hasAgent };
}

/**
 * Returns the addresses that the box must not reach. The engine's network makes its connections from the host itself.
 * So the addresses of the host would lead to its services, and one special address leads to its loopback interface.
 */
function hostAddresses(network: boolean): string[] {
  if (!network) return [];
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const own = addresses.filter(({ family, address }) => family === 'IPv4' && !address.startsWith('127.'));
  return [engineHostAddress, ...own.map(({ address }) => `${address}/32`)];
}

async function readText(stream: Awaited<ReturnType<EngineExec['stdout']>>): Promise<string> {
  let text = '';
  for (let piece = await stream.next(); piece !== null; piece = await stream.next()) {
    text = (text + piece).slice(-outputTextMax);
  }
  return text;
}
