// `boxrun serve` as a service of systemd: installs, removes and shows it.
// A unit file that boxrun has not written is changed or removed only with --force.
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { runTool } from '../../shared/process/child-process.ts';
import { loadConfig } from '../../shared/settings/config.ts';
import { BoxRunError, errorText } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';
import { livingProcess } from '../../shared/process/process-file.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import { hasSystemd, systemctl, type SystemdOwner } from '../../shared/host/systemd.ts';
import type { CommandSpec } from '../parsing/command.ts';
import { printJson, printLines } from '../render/render.ts';
import { isServerUp } from './running-server.ts';
import { isOwnUnit, renderUnit, serviceArguments, serviceEnvironment, unitName } from './service-unit.ts';

/** The place for unit files of the administrator (`system`) or of this user (`user`); source: systemd.unit(5). */
export function unitFile(owner: SystemdOwner): string {
  if (owner === 'system') return join('/etc/systemd/system', unitName);
  const configHome = process.env['XDG_CONFIG_HOME'] ?? '';
  return join(configHome === '' ? join(homedir(), '.config') : configHome, 'systemd/user', unitName);
}

/** The text of the unit file; null if there is no such file. @throws RUNTIME_ERROR if it cannot be read */
function readUnit(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new BoxRunError('RUNTIME_ERROR', `the unit file cannot be read: ${errorText(error)}`);
  }
}

export interface InstallOptions {
  readonly owner: SystemdOwner;
  /** Replaces a unit file that boxrun has not written. */
  readonly isForced: boolean;
  /** Only prints the unit file. */
  readonly isPrinted: boolean;
  /** Options for `serve`. */
  readonly words: readonly string[];
  readonly serve: CommandSpec;
}

/**
 * Writes the unit file, enables the service and starts it. Returns the exit code.
 * @throws UsageError, VALIDATION_ERROR (see serviceArguments), RUNTIME_ERROR
 */
export async function installService(options: InstallOptions): Promise<number> {
  const { owner } = options;
  const { stateDir } = loadConfig();
  const text = renderUnit({
    owner,
    command: [
      ...[process.execPath, '--no-warnings', realpathSync(process.argv[1] ?? ''), 'serve'],
      ...serviceArguments(options.words, options.serve),
    ],
    environment: serviceEnvironment(stateDir, process.env),
  });
  if (options.isPrinted) {
    process.stdout.write(text);
    return 0;
  }
  const path = unitFile(owner);
  requireSystemd(owner);
  requireOwnUnit(path, options.isForced);
  await requireNoOtherServer(owner, stateDir);
  await control(owner, ['show', '--property=Version']); // Fails before anything is written, if systemd does not answer.
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text, { mode: 0o644 });
  printLines(`Written: ${path}`);
  await control(owner, ['daemon-reload']);
  await control(owner, ['enable', unitName]);
  await systemctl(owner, ['reset-failed', unitName]); // Earlier failed starts would count against StartLimitBurst.
  // `restart` and not `start`: a service that runs already gets the new settings. Its boxes run on.
  await control(owner, ['restart', unitName]);
  printLines(`The service ${unitName} runs, and starts with ${owner === 'system' ? 'the host' : 'your logins'}.`);
  if (owner === 'user' && !(await isLingering())) {
    printLines(
      'It ends with your last login, and so do its boxes. To let it run on, and start with the host:',
      `  loginctl enable-linger ${userInfo().username}`,
    );
  }
  return 0;
}

/** Stops the service and removes its unit file; the boxes run on. Returns the exit code. @throws RUNTIME_ERROR */
export async function uninstallService(owner: SystemdOwner, isForced: boolean): Promise<number> {
  const path = unitFile(owner);
  if (readUnit(path) === null) {
    printLines(`There is no ${path}: nothing to remove.`);
    return 0;
  }
  requireOwnUnit(path, isForced);
  requireSystemd(owner);
  await control(owner, ['disable', '--now', unitName]);
  rmSync(path);
  await control(owner, ['daemon-reload']);
  printLines(`Removed: ${path}`, 'Running boxes go on; the next server takes them over.');
  return 0;
}

/** The services that `boxrun service install` has installed and that this user may remove. */
export function installedServices(): SystemdOwner[] {
  const owners: SystemdOwner[] = process.getuid?.() === 0 ? ['system', 'user'] : ['user'];
  return hasSystemd() ? owners.filter((owner) => isOwnUnit(readUnit(unitFile(owner)) ?? '')) : [];
}

/** Prints the state of the service. Returns the exit code: 0 if the service runs, else 1. */
export async function showService(owner: SystemdOwner, isJson: boolean): Promise<number> {
  const path = unitFile(owner);
  const text = readUnit(path);
  const properties = ['ActiveState', 'SubState', 'MainPID', 'UnitFileState', 'Result'];
  const answer = hasSystemd()
    ? await systemctl(owner, ['show', `--property=${properties.join(',')}`, unitName]).catch(() => null)
    : null;
  const shown: Partial<Record<string, string>> = {};
  for (const line of (answer?.stdout ?? '').split('\n')) {
    const [name = '', value] = line.split('=', 2);
    if (value !== undefined) shown[name] = value;
  }
  const pid = Number(shown['MainPID'] ?? 0);
  const status = {
    unit: unitName,
    file: path,
    installed: text !== null,
    written_by_boxrun: text !== null && isOwnUnit(text),
    systemd: hasSystemd(),
    enabled: shown['UnitFileState'] === 'enabled',
    active: shown['ActiveState'] === 'active',
    state: shown['ActiveState'] === undefined ? null : `${shown['ActiveState']} (${shown['SubState'] ?? ''})`,
    result: shown['Result'] ?? null,
    pid: pid === 0 ? null : pid,
    answers: await isServerUp(),
  };
  if (isJson) printJson(status);
  else {
    const writtenBy = status.written_by_boxrun ? '' : ', not written by boxrun';
    const file = status.installed ? `${path}${writtenBy}` : `not installed (${path})`;
    const why = status.systemd ? 'systemd does not answer' : 'systemd does not run on this host';
    const enabled = status.installed ? [status.enabled ? 'enabled' : 'not enabled'] : [];
    const pids = status.pid === null ? [] : [`process ${status.pid}`];
    printLines(
      `unit     ${file}`,
      `state    ${[status.state ?? why, ...enabled, ...pids].join(', ')}`,
      `server   ${status.answers ? 'answers' : 'does not answer'}`,
    );
  }
  return status.active ? 0 : 1;
}

function requireSystemd(owner: SystemdOwner): void {
  if (!hasSystemd()) {
    throw new BoxRunError('RUNTIME_ERROR', 'systemd does not run on this host', {
      hint: '`boxrun service install --print` prints the unit file; it shows how to start the server in another way',
    });
  }
  if (owner === 'system' && process.getuid?.() !== 0) {
    throw new BoxRunError('RUNTIME_ERROR', 'only root may change services of the host', {
      hint: 'use sudo, or --user for a service of your own',
    });
  }
}

function requireOwnUnit(path: string, isForced: boolean): void {
  const text = readUnit(path);
  if (text === null || isOwnUnit(text) || isForced) return;
  throw new BoxRunError('RUNTIME_ERROR', `${path} was not written by boxrun`, {
    hint: 'read that file first; with --force, boxrun replaces or removes it',
  });
}

/** A second server with the same state directory could not start. */
async function requireNoOtherServer(owner: SystemdOwner, stateDir: string): Promise<void> {
  const keeper = await livingProcess(statePaths(stateDir).keeperFile);
  if (keeper === null) return;
  const { stdout } = await systemctl(owner, ['show', '--value', '--property=MainPID', unitName]);
  if (Number(stdout) === keeper.pid) return;
  throw new BoxRunError('RUNTIME_ERROR', `another server already uses ${stateDir}: process ${keeper.pid}`, {
    hint: `stop that server first (its boxes run on): kill ${keeper.pid}`,
  });
}

async function control(owner: SystemdOwner, args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await systemctl(owner, args, limits.serviceStartMs);
  if (exitCode === 0) return;
  throw new BoxRunError('RUNTIME_ERROR', `systemctl ${args.join(' ')} failed: ${stderr.trim()}`, {
    hint:
      owner === 'user'
        ? `see: journalctl --user -u ${unitName}; the systemd of a user can be reached only from a login of that user`
        : `see: journalctl -u ${unitName}`,
  });
}

/** Whether systemd keeps the services of this user running without a login (loginctl(1), enable-linger). */
async function isLingering(): Promise<boolean> {
  const name = userInfo().username;
  if (existsSync(join('/var/lib/systemd/linger', name))) return true;
  const answer = await runTool('loginctl', ['show-user', '--value', '--property=Linger', name], {
    timeoutMs: limits.systemdAnswerMs,
  }).catch(() => null);
  return answer?.stdout.trim() === 'yes';
}
