// The flags of the commands that create a box (create, run, shell), and the request that is made from them.
// A wrong value is a usage error, before any request is sent.
import type { CreateBoxInput } from '../../sdk/index.ts';
import type { Values } from './command.ts';
import { defaultDetachKeys } from './detach-keys.ts';
import { parseVariables } from './environment.ts';
import { parseCpus, parseGrace, parseSize, parseUlimit, parseVolume, parseWhole, UsageError } from './options.ts';

export const imagePositional = {
  describe: 'imported image, short name, or reference to a registry',
  default: 'default',
  kind: 'image',
} as const;
export const envOptions = {
  env: {
    type: 'list',
    alias: 'e',
    describe: 'set a variable, KEY=VALUE, or KEY with its value here; may be repeated',
  },
  'env-file': { type: 'list', kind: 'file', describe: 'set the variables in this file; may be repeated' },
} as const;
export const nameOption = { type: 'text', alias: 'n', describe: 'name of the box' } as const;
export const labelOption = {
  type: 'list',
  alias: 'l',
  describe: 'label, KEY=VALUE, to find the box by; may be repeated',
} as const;
export const jsonOption = { type: 'flag', describe: 'print JSON' } as const;
export const detachKeysOption = {
  type: 'text',
  default: defaultDetachKeys,
  describe: 'keys that leave the terminal, such as ctrl-a,d; an empty value turns them off',
} as const;
export const noTruncOption = {
  type: 'flag',
  describe: 'cut nothing, even if lines become longer than the terminal',
} as const;
export const formatOption = {
  type: 'text',
  describe: "print a line for each, such as '{{.id}} {{.name}}'; json prints an object on each line",
} as const;
export const quietOption = { type: 'flag', alias: 'q', describe: 'print ids only' } as const;

export const boxOptions = {
  cpu: { type: 'text', describe: 'CPUs that are reserved', shownDefault: '2, or --cpus rounded up' },
  cpus: { type: 'text', describe: 'CPUs that its commands use at most, such as 0.5', shownDefault: '--cpu' },
  memory: { type: 'text', alias: 'm', default: '1024', describe: 'memory in MiB, or as 512m or 1g' },
  disk: { type: 'text', alias: 'd', default: '8', describe: 'disk in GiB, or as 8g' },
  network: { type: 'flag', describe: 'give the box access to the network' },
  volume: {
    type: 'list',
    alias: 'v',
    kind: 'file',
    describe: 'mount a directory of the host, /host:/guest[:ro|rw]; may be repeated',
  },
  ...envOptions,
  ulimit: {
    type: 'list',
    describe: 'set a limit for its commands, NAME=SOFT[:HARD], -1 for unlimited; may be repeated',
  },
} as const;

/** Matters only for a box that stays. The box of a run, or of a shell without --keep, is removed by force. */
export const stopGraceOption = {
  type: 'text',
  shownDefault: '5',
  describe: 'how long a stop waits for its processes to end, in seconds',
} as const;

/** @throws UsageError */
export function stopGraceInput(text: string | undefined): Pick<CreateBoxInput, 'stop_grace_s'> {
  return text === undefined ? {} : { stop_grace_s: parseGrace('stop-grace', text) };
}

type BoxValues = Values<object, typeof boxOptions>;

/** The request for a box with these flags. @throws UsageError */
export function boxInput(image: string, values: BoxValues): CreateBoxInput {
  const env = parseVariables(values.env, values['env-file']);
  return {
    image,
    ...cpuInput(values),
    memory_mb: parseSize('memory', values.memory, 'MiB'),
    disk_size_gb: parseSize('disk', values.disk, 'GiB'),
    network: values.network,
    ...(values.volume.length === 0 ? {} : { volumes: values.volume.map(parseVolume) }),
    ...(Object.keys(env).length === 0 ? {} : { env }),
    ...(values.ulimit.length === 0 ? {} : { ulimits: values.ulimit.map(parseUlimit) }),
  };
}

/** `--cpus` alone reserves as many whole CPUs as it needs. @throws UsageError */
function cpuInput({ cpu, cpus }: Pick<BoxValues, 'cpu' | 'cpus'>): Pick<CreateBoxInput, 'cpu' | 'cpu_limit'> {
  const limit = cpus === undefined ? null : parseCpus(cpus);
  const reserved = cpu === undefined ? Math.ceil(limit ?? 2) : parseWhole('cpu', cpu, 1);
  if (limit !== null && limit > reserved)
    throw new UsageError(`--cpus ${limit} is more than --cpu ${reserved}; leave --cpu out, or raise it`);
  return { cpu: reserved, ...(limit === null || limit === reserved ? {} : { cpu_limit: limit }) };
}
