// What a running box uses, as its control groups, its file system and its network namespace say. It only reads. A
// process of the box can end at any moment, so what cannot be read is null.
import { readFile, statfs } from 'node:fs/promises';
import type { BoxStats } from '../../driver-contract.ts';
import type { ContainerState } from './container-state.ts';
import { loadJson, type BoxRecord } from './record.ts';

/** @throws BOX_NOT_RUNNING */
export async function statsOf(held: ContainerState): Promise<BoxStats> {
  const { pid } = held.needRunning().state.init;
  const [disk, network] = await Promise.all([diskOf(held, pid), networkOf(held, pid)]);
  return { ...held.cgroups.usage(), ...disk, processes: held.cgroups.pids().length, ...network };
}

type Disk = Pick<BoxStats, 'diskUsedBytes' | 'diskSizeBytes'>;

/** A disk that is a plain directory has no size of its own: its file system is that of the host. */
async function diskOf({ paths }: ContainerState, initPid: number): Promise<Disk> {
  const isOwn = loadJson<BoxRecord>(paths.record)?.disk.kind === 'image';
  const found = isOwn ? await statfs(`/proc/${initPid}/root/`).catch(() => null) : null;
  if (found === null) return { diskUsedBytes: null, diskSizeBytes: null };
  return { diskUsedBytes: (found.blocks - found.bfree) * found.bsize, diskSizeBytes: found.blocks * found.bsize };
}

type Network = Pick<BoxStats, 'networkReceivedBytes' | 'networkSentBytes'>;

async function networkOf({ context }: ContainerState, initPid: number): Promise<Network> {
  const table = context.spec.network ? await readFile(`/proc/${initPid}/net/dev`, 'utf8').catch(() => null) : null;
  return table === null ? { networkReceivedBytes: null, networkSentBytes: null } : networkBytes(table);
}

/** The sums over all interfaces but the loopback one. `table` is /proc/net/dev of proc(5). Pure. */
export function networkBytes(table: string): Network {
  let networkReceivedBytes = 0;
  let networkSentBytes = 0;
  for (const [, name, counts = ''] of table.matchAll(/^ *([^:\s]+):(.*)$/gm)) {
    if (name === 'lo') continue;
    const numbers = counts.trim().split(/ +/).map(Number);
    networkReceivedBytes += numbers[0] ?? 0;
    networkSentBytes += numbers[8] ?? 0;
  }
  return { networkReceivedBytes, networkSentBytes };
}
