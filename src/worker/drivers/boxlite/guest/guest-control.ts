// What the driver does to a box from outside it but inside its VM: preparing it after a boot, killing whole commands,
// asking everything to end. Each is one short script run as root of the VM. Owns the list of commands whose cgroups
// wait to be removed. Called by driver.ts and exec.ts.
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
  setUpScript,
  stopScript,
  sweepScript,
} from './guest-scripts.ts';

export interface GuestControl {
  /** After each boot and re-attach, before anything else. Also the proof that the VM answers. */
  setUp(timeoutMs: number): Promise<void>;
  killExec(execId: string): Promise<void>;
  /** Whether a process of the command lives. */
  hasProcesses(execId: string): Promise<boolean>;
  /** Commands that have a cgroup. */
  foundExecs(): Promise<string[]>;
  killStrayExecs(finished: ReadonlySet<string>): Promise<void>;
  /** TERM, and KILL after `graceMs`; the disk is written out. */
  endCommands(graceMs: number): Promise<void>;
  /** The leader of the command has ended. */
  forget(execId: string): void;
}

export interface GuestControlOptions {
  readonly box: () => EngineBox;
  /** The engine's directory of the box. */
  readonly boxDir: string;
  readonly network: boolean;
}

/** Ended commands whose cgroups are removed together. */
const sweepCount = 32;
const stopStepMs = 50;
const controlTimeoutMs = 15_000;
/** The names of all commands that a box can have at once fit in. */
const outputTextMax = 1024 * 1024;
/** The engine's network forwards it to 127.0.0.1 of the host. */
const engineHostAddress = '192.168.127.254/32';

export function createGuestControl({ box, boxDir, network }: GuestControlOptions): GuestControl {
  /** Found by setUp: it stays what it is while the VM lives, whatever becomes of the volume. */
  let busybox: string | null = null;
  let ended: string[] = [];
  let sweeping = false;

  async function run(program: string, script: string, args: readonly string[], timeoutMs: number): Promise<string> {
    // This variable makes the engine's guest agent run the command itself, not in the box.
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

  async function sweep(): Promise<void> {
    sweeping = true;
    const ids = ended;
    ended = [];
    try {
      const left = await control(sweepScript, ids);
      ended.push(...left.split('\n').filter((id) => id !== ''));
    } catch {
      ended.push(...ids); // With the next one; the VM may be on its way out.
    } finally {
      sweeping = false;
    }
  }

  return {
    async setUp(timeoutMs) {
      const container = (await readdir(join(boxDir, 'mounts', 'containers'))).at(0);
      if (container === undefined) throw new BoxRunError('RUNTIME_ERROR', 'the engine has made no container');
      const volume = `/run/boxlite/shared/containers/${container}/volumes/uservol0`;
      const pid = await run(`${volume}/busybox`, setUpScript, [container, ...hostAddresses(network)], timeoutMs);
      busybox = `/proc/${Number(pid.trim())}/root${toolsPath}/busybox`;
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
    async killStrayExecs(finished) {
      await control(killStraysScript, [...finished]);
      ended = [...finished];
    },
    async endCommands(graceMs) {
      await control(stopScript, [`${Math.ceil(graceMs / stopStepMs)}`], graceMs + controlTimeoutMs);
    },
    forget(execId) {
      ended.push(execId);
      if (ended.length >= sweepCount && ended.length % sweepCount === 0 && !sweeping) void sweep();
    },
  };
}

/**
 * The engine's network connects from the host itself, so the host's own addresses would lead to its services, and one
 * address stands for the host's loopback interface.
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
