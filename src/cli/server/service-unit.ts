// The text of the unit file for `boxrun serve`, with the settings and options that it may contain.
// It never contains a secret, because every user of the host can read a unit file.
import { resolve } from 'node:path';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import type { SystemdOwner } from '../../shared/host/systemd.ts';
import type { CommandSpec } from '../parsing/command.ts';
import { UsageError } from '../parsing/options.ts';

export const unitName = 'boxrun.service';

/** First line of a unit file that `boxrun service` has written. It shows that the file may be replaced or removed. */
const mark = '# Written by `boxrun service install`.';

export function isOwnUnit(text: string): boolean {
  return text.startsWith(mark);
}

/** The default hard limit of systemd for open files of a service (DefaultLimitNOFILE). */
const openFilesMax = 524_288;

interface UnitOptions {
  readonly owner: SystemdOwner;
  /** Program and arguments, all paths absolute. */
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

export function renderUnit({ owner, command, environment }: UnitOptions): string {
  const isSystem = owner === 'system';
  // Longer than the keeper's own deadlines: gateways, then supervisor, then writer.
  const stopSeconds = Math.ceil((2 * limits.childStopMs + limits.supervisorStopMs) / 1000) + 10;
  return [
    `${mark} The next install overwrites this file.`,
    `# Put your changes into a drop-in file: \`systemctl ${isSystem ? '' : '--user '}edit ${unitName}\`.`,
    '[Unit]',
    'Description=BoxRun, a server for isolated Linux boxes',
    ...(isSystem ? ['Wants=network-online.target', 'After=network-online.target'] : []),
    'StartLimitIntervalSec=60',
    'StartLimitBurst=5',
    '',
    '[Service]',
    'Type=notify',
    'NotifyAccess=all',
    ...Object.entries(environment).map(([name, value]) => `Environment=${quoted(`${name}=${value}`)}`),
    `ExecStart=${command.map((word) => quoted(word).replaceAll('$', '$$$$')).join(' ')}`,
    'Restart=on-failure',
    'RestartSec=1',
    '# Boxes leave the control group of the server. If they cannot leave it, this setting keeps them running.',
    'KillMode=process',
    'Delegate=yes',
    'OOMPolicy=continue',
    '# The server limits its start by itself. The start can take long, because a database may have to be migrated.',
    'TimeoutStartSec=infinity',
    `TimeoutStopSec=${stopSeconds}`,
    `LimitNOFILE=${openFilesMax}`,
    'TasksMax=infinity',
    ...(isSystem
      ? [
          '# If memory runs out, the kernel kills boxes before the server. Boxes do not inherit this value.',
          'OOMScoreAdjust=-500',
        ]
      : []),
    '',
    '[Install]',
    `WantedBy=${isSystem ? 'multi-user' : 'default'}.target`,
    '',
  ].join('\n');
}

/** Quotes a word for a unit file (systemd.syntax(7)). `%` is doubled, because it begins a specifier. */
function quoted(word: string): string {
  const escaped = word
    .replaceAll('\\', '\\\\')
    .replaceAll('"', '\\"')
    .replaceAll('\n', '\\n')
    .replaceAll('\t', '\\t')
    .replaceAll('%', '%%');
  return `"${escaped}"`;
}

/**
 * The settings in `env` that the service gets too. Empty ones count as not set. Paths become absolute.
 * @throws VALIDATION_ERROR if `env` holds a token
 */
export function serviceEnvironment(
  stateDir: string,
  env: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  if ((env['BOXRUN_TOKEN'] ?? '') !== '') {
    throw new BoxRunError('VALIDATION_ERROR', 'BOXRUN_TOKEN is set, and everybody can read a unit file', {
      hint: 'put the token into a file, then run: boxrun service install -- --token-file FILE',
    });
  }
  const paths = ['BOXRUN_DB', 'BOXRUN_SOCKET', 'BOXLITE_RUNTIME_DIR'];
  const own = Object.entries(env)
    .filter(([name, value]) => /^(BOXRUN_|BOXLITE_RUNTIME_DIR$)/.test(name) && (value ?? '') !== '')
    .filter(([name]) => !['BOXRUN_TOKEN', 'BOXRUN_STATE_DIR', 'BOXRUN_ORDERS'].includes(name))
    .map(([name, value = '']) => [name, paths.includes(name) ? resolve(value) : value] as const);
  return { BOXRUN_STATE_DIR: stateDir, ...Object.fromEntries(own) };
}

/**
 * The options of `serve` as they are written into the unit. Paths become absolute, because a service runs in another
 * working directory.
 * @throws UsageError for an option that `serve` does not know, or that has no value; VALIDATION_ERROR for a token
 */
export function serviceArguments(words: readonly string[], serve: CommandSpec): string[] {
  const result: string[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    const [, name = '', , value = words[++at]] = /^--([a-z-]+)(=(.*))?$/s.exec(word) ?? [];
    const option = serve.options?.[name];
    if (option === undefined) throw new UsageError(`boxrun serve does not know '${word}'`);
    if (value === undefined) throw new UsageError(`--${name} needs a value`);
    if (name === 'token') {
      throw new BoxRunError('VALIDATION_ERROR', 'everybody can read a unit file, so no token may stand in it', {
        hint: 'put it into a file: --token-file FILE',
      });
    }
    const isPath = option.type !== 'flag' && option.kind === 'file';
    result.push(`--${name}`, isPath ? resolve(value) : value);
  }
  return result;
}
