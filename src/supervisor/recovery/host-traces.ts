// Finds everything that the boxes of this state directory have on the host: homes, control groups, processes, mounts
// and loop devices. Only looks, and changes nothing.
import { readdir, readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { isBoxId } from '../../shared/ids.ts';
import { homeMark, instanceCgroup, ownerOf, type HomeOwner } from '../../shared/host/host-marks.ts';

export interface Trace {
  readonly kind: 'home' | 'cgroup' | 'process' | 'mount' | 'loop';
  readonly boxId: string;
  /** A path, a process id or a device. */
  readonly what: string;
}

export interface HostTraces {
  readonly traces: readonly Trace[];
  /** By box id: the owner of each home that names its owner. */
  readonly owners: ReadonlyMap<string, HomeOwner>;
}

export interface HostPlaces {
  readonly boxesDir: string;
  readonly instanceId: string;
}

const cgroupRoot = '/sys/fs/cgroup';

export async function findTraces({ boxesDir, instanceId }: HostPlaces): Promise<HostTraces> {
  // A process names the home by the path that it was given. The kernel names mounts and loop devices by the path with
  // all symbolic links resolved. So both paths are searched for.
  const places = [...new Set([boxesDir, await realpath(boxesDir)])];
  const boxIn = (text: string) => boxOf(text, places);
  const homes = await findHomes(boxesDir);
  const owners = new Map<string, HomeOwner>();
  for (const { boxId, what } of homes) {
    const owner = await ownerOf(what);
    if (owner !== null) owners.set(boxId, owner);
  }
  const traces = [
    homes,
    await findCgroups(instanceId),
    await findProcesses(boxIn),
    await findMounts(boxIn),
    await findLoops(boxIn),
  ];
  return { traces: traces.flat(), owners };
}

/** The box in whose home a path lies. */
function boxOf(path: string, places: readonly string[]): string | null {
  for (const place of places) {
    if (!path.startsWith(`${place}/`)) continue;
    const name = path.slice(place.length + 1).split('/')[0] ?? '';
    if (isBoxId(name)) return name;
  }
  return null;
}

async function findHomes(boxesDir: string): Promise<Trace[]> {
  return (await names(boxesDir)).filter(isBoxId).map((boxId) => ({ kind: 'home', boxId, what: join(boxesDir, boxId) }));
}

/** Version 2 of control groups has one hierarchy, at the root. Version 1 has several, in directories below the root. */
async function findCgroups(instanceId: string): Promise<Trace[]> {
  const tops = [cgroupRoot, ...(await names(cgroupRoot)).map((name) => join(cgroupRoot, name))];
  const found = await Promise.all(
    tops.map(async (top) => {
      const parent = join(top, instanceCgroup(instanceId));
      return (await names(parent))
        .filter(isBoxId)
        .map((boxId): Trace => ({ kind: 'cgroup', boxId, what: join(parent, boxId) }));
    }),
  );
  return found.flat();
}

/** A process belongs to a box if its environment names the home. The processes of a VM name it in their arguments. */
async function findProcesses(boxIn: (text: string) => string | null): Promise<Trace[]> {
  const found: Trace[] = [];
  for (const pid of (await names('/proc')).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
    const [environment, argv] = await Promise.all(['environ', 'cmdline'].map((file) => text(`/proc/${pid}/${file}`)));
    const marked = environment
      ?.split('\0')
      .find((entry) => entry.startsWith(`${homeMark}=`))
      ?.slice(homeMark.length + 1);
    const [program = '', ...args] = argv?.split('\0') ?? [];
    const isVm = /(^|\/)(bwrap|boxlite-shim)$/.test(program);
    const boxId = boxIn(`${marked ?? ''}/`) ?? (isVm ? (args.map(boxIn).find((each) => each !== null) ?? null) : null);
    if (boxId !== null) found.push({ kind: 'process', boxId, what: pid });
  }
  return found;
}

/** Only mounts that the host sees. The mounts in the namespace of a box disappear with its processes. */
async function findMounts(boxIn: (text: string) => string | null): Promise<Trace[]> {
  return (await text('/proc/self/mountinfo')).split('\n').flatMap((line): Trace[] => {
    const what = unescaped(line.split(' ')[4] ?? '');
    const boxId = boxIn(what);
    return boxId === null ? [] : [{ kind: 'mount', boxId, what }];
  });
}

async function findLoops(boxIn: (text: string) => string | null): Promise<Trace[]> {
  const devices = (await names('/sys/block')).filter((name) => name.startsWith('loop'));
  const found = await Promise.all(
    devices.map(async (name): Promise<Trace[]> => {
      const boxId = boxIn((await text(`/sys/block/${name}/loop/backing_file`)).replace(/ \(deleted\)|\n$/g, ''));
      return boxId === null ? [] : [{ kind: 'loop', boxId, what: `/dev/${name}` }];
    }),
  );
  return found.flat();
}

/** The kernel writes spaces and some other characters of a path as octal numbers (proc(5)). */
function unescaped(path: string): string {
  return path.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

async function names(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}

async function text(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}
