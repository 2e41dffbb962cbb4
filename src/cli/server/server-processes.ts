// The processes of the server on this host, found through /proc: its keeper, and the writer, the supervisor, the
// gateways and the workers. A process belongs to the server of a state directory if it has a file of that directory
// open.
import { readdir, readFile, readlink } from 'node:fs/promises';
import { isAlive, killQuietly, processIdentity, type ProcessIdentity } from '../../shared/process/child-process.ts';
import { sleep } from '../../shared/waiting/clock.ts';
import { BoxRunError } from '../../shared/errors.ts';

/** Long, because the keeper stops its child processes one after the other. */
const serverStopMs = 60_000;

interface ServerProcess extends ProcessIdentity {
  readonly role: string;
}

/** The processes whose title names a part of boxrun and that have a file of this state directory open. */
export async function serverProcesses(stateDir: string): Promise<ServerProcess[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(pids.map((pid) => inspect(pid, stateDir).catch(() => null)));
  return found.filter((each) => each !== null);
}

async function inspect(pid: number, stateDir: string): Promise<ServerProcess | null> {
  const title = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ');
  const role = /^boxrun (keeper|supervisor|gateway|writer|worker)\b/.exec(title)?.[1];
  if (role === undefined) return null;
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '');
    if (!target.startsWith(`${stateDir}/`)) continue;
    const identity = await processIdentity(pid);
    return identity === null ? null : { ...identity, role };
  }
  return null;
}

/**
 * Ends the keeper in order and waits for its end. Boxes run on, with their workers.
 * @returns false if no keeper runs
 * @throws TIMEOUT
 */
export async function stopServer(stateDir: string): Promise<boolean> {
  const keepers = (await serverProcesses(stateDir)).filter(({ role }) => role === 'keeper');
  for (const { pid } of keepers) killQuietly(pid, 'SIGTERM');
  const deadline = Date.now() + serverStopMs;
  for (const keeper of keepers) {
    while (await isAlive(keeper)) {
      if (Date.now() > deadline) throw new BoxRunError('TIMEOUT', `the server (process ${keeper.pid}) does not end`);
      await sleep(25);
    }
  }
  return keepers.length > 0;
}
