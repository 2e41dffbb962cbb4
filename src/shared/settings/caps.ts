// The limits that a user may set, each by a flag of `serve` and by an environment variable. The defaults are in
// limits.ts, which also says what happens at each limit. The command line makes its flags from this table.
import { limits } from '../limits.ts';

interface Cap {
  /** The name of the flag. The variable is BOXRUN_ with this name in upper case, and `_` for `-`. */
  readonly setting: string;
  readonly defaultValue: number;
  readonly least: number;
  readonly most: number;
  readonly describe: string;
}

const mib = 1024 * 1024;

export const capTable = {
  // Far below limits.frameBytesMax, because a body crosses to the supervisor in one frame.
  bodyMb: {
    setting: 'max-body-mb',
    defaultValue: limits.bodyBytesMax / mib,
    least: 1,
    most: 8,
    describe: 'longest JSON body, in MiB',
  },
  outputMb: {
    setting: 'max-output-mb',
    defaultValue: limits.execOutputBytesMax / mib,
    least: 1,
    most: 2 ** 30,
    describe: 'output kept of one command, in MiB',
  },
  execs: {
    setting: 'max-execs',
    defaultValue: limits.execsRunningMax,
    least: 1,
    most: 4_096,
    describe: 'commands running at once in one box',
  },
  boxes: {
    setting: 'max-boxes',
    defaultValue: limits.boxesMax,
    least: 1,
    most: 1_000_000,
    describe: 'boxes, stopped ones too',
  },
  streams: {
    setting: 'max-streams',
    defaultValue: limits.streamsPerClientMax,
    least: 1,
    most: 1_000_000,
    describe: 'event streams and WebSockets of one client',
  },
  retentionHours: {
    setting: 'retention-hours',
    defaultValue: limits.retentionHours,
    least: 0,
    most: 1_000_000,
    describe: 'how long ended commands are kept; 0: as long as their box',
  },
  freeDiskMb: {
    setting: 'min-free-disk-mb',
    defaultValue: limits.freeDiskBytesMin / mib,
    least: 0,
    most: 2 ** 30,
    describe: 'free disk below which no box is created and no command is started, in MiB',
  },
} as const satisfies Record<string, Cap>;

export type CapName = keyof typeof capTable;
export type CapSetting = (typeof capTable)[CapName]['setting'];
export type Caps = Readonly<Record<CapName, number>>;

export function capVariable(setting: CapSetting): string {
  return `BOXRUN_${setting.toUpperCase().replaceAll('-', '_')}`;
}
