// `boxrun serve` as a service of systemd: its unit file is written, removed and looked at here. A unit file that
// somebody else has written is never changed, except by --force.
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

/** Where administrators, and users, put unit files of their own (systemd.unit(5)). */
export function unitFile(owner: SystemdOwner): string {
  if (owner === 'system') return join('/etc/systemd/system', unitName);
  const configHome = process.env['XDG_CONFIG_HOME'] ?? '';
  return join(configHome === '' ? join(homedir(), '.config') : configHome, 'systemd/user', unitName);
}

/** Null: there is none. */
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
  readonly isForced: boolean;
  readonly isPrinted: boolean;
  /** For `serve`. */
  readonly words: readonly string[];
  readonly serve: CommandSpec;
}

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
  needSystemd(owner);
  needOwnUnit(path, options.isForced);
  await needNoOtherServer(owner, stateDir);
  await control(owner, ['show', '--property=Version']); // Before anything is written: does it answer?
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text, { mode: 0o644 });
  printLines(`Written: ${path}`);
  await control(owner, ['daemon-reload']);
  await control(owner, ['enable', unitName]);
  await systemctl(owner, ['reset-failed', unitName]); // Of earlier starts, which count against the limit.
  // One that runs already gets the new settings; its boxes run on.
  await control(owner, ['restart', unitName]);
  printLines(`The service ${unitName} runs, and starts with ${owner === 'system' ? 'the host' : 'your logins'}.`);
  if (owner === 'user' && !(await lingers())) {
    printLines(
      'It ends with your last login, and so do its boxes. To let it run on, and start with the host:',
      `  loginctl enable-linger ${userInfo().username}`,
    );
  }
  return 0;
}

/** Ends the server, and lets its boxes run on. */
export async function uninstallService(owner: SystemdOwner, isForced: boolean): Promise<number> {
  const path = unitFile(owner);
  if (readUnit(path) === null) {
    printLines(`There is no ${path}: nothing to remove.`);
    return 0;
  }
  needOwnUnit(path, isForced);
  needSystemd(owner);
  await control(owner, ['disable', '--now', unitName]);
  rmSync(path);
  await control(owner, ['daemon-reload']);
  printLines(`Removed: ${path}`, 'Boxes that run go on; the next server takes them over.');
  return 0;
}

/** The services that `boxrun service install` has made and this user can remove. */
export function installedServices(): SystemdOwner[] {
  const owners: SystemdOwner[] = process.getuid?.() === 0 ? ['system', 'user'] : ['user'];
  return hasSystemd() ? owners.filter((owner) => isOwnUnit(readUnit(unitFile(owner)) ?? '')) : [];
}

/** Exit code 0 while it runs. */
export async function showService(owner: SystemdOwner, isJson: boolean): Promise<number> {
  const path = unitFile(owner);
  const text = readUnit(path);
  const properties = ['ActiveState', 'SubState', 'MainPID', 'UnitFileState', 'Result'];
  const answer = hasSystemd()
    ? await systemctl(owner, ['show', `--property=${properties.join(',')}`, unitName]).catch(() => null)
    : null;
  const said: Partial<Record<string, string>> = {};
  for (const line of (answer?.stdout ?? '').split('\n')) {
    const [name = '', value] = line.split('=', 2);
    if (value !== undefined) said[name] = value;
  }
  const pid = Number(said['MainPID'] ?? 0);
  const status = {
    unit: unitName,
    file: path,
    installed: text !== null,
    written_by_boxrun: text !== null && isOwnUnit(text),
    systemd: hasSystemd(),
    enabled: said['UnitFileState'] === 'enabled',
    active: said['ActiveState'] === 'active',
    state: said['ActiveState'] === undefined ? null : `${said['ActiveState']} (${said['SubState'] ?? ''})`,
    result: said['Result'] ?? null,
    pid: pid === 0 ? null : pid,
    answers: await isServerUp(),
  };
  if (isJson) printJson(status);
  else {
    const file = !status.installed ? `not installed (${path})` : status.written_by_boxrun ? path : `${path}, not ours`;
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

function needSystemd(owner: SystemdOwner): void {
  if (!hasSystemd()) {
    throw new BoxRunError('RUNTIME_ERROR', 'systemd does not run on this host', {
      hint: '`boxrun service install --print` prints the unit file; other programs that start services can use it',
    });
  }
  if (owner === 'system' && process.getuid?.() !== 0) {
    throw new BoxRunError('RUNTIME_ERROR', 'only root may change services of the host', {
      hint: 'use sudo, or --user for a service of your own',
    });
  }
}

function needOwnUnit(path: string, isForced: boolean): void {
  const text = readUnit(path);
  if (text === null || isOwnUnit(text) || isForced) return;
  throw new BoxRunError('RUNTIME_ERROR', `${path} was not written by boxrun`, {
    hint: 'look at it first; --force replaces or removes it',
  });
}

/** Of two servers with one state directory the second one cannot start. */
async function needNoOtherServer(owner: SystemdOwner, stateDir: string): Promise<void> {
  const keeper = await livingProcess(statePaths(stateDir).keeperFile);
  if (keeper === null) return;
  const { stdout } = await systemctl(owner, ['show', '--value', '--property=MainPID', unitName]);
  if (Number(stdout) === keeper.pid) return;
  throw new BoxRunError('RUNTIME_ERROR', `a server runs already with ${stateDir}: process ${keeper.pid}`, {
    hint: `end it first, its boxes run on: kill ${keeper.pid}`,
  });
}

async function control(owner: SystemdOwner, args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await systemctl(owner, args, limits.serviceStartMs);
  if (exitCode === 0) return;
  throw new BoxRunError('RUNTIME_ERROR', `systemctl ${args.join(' ')} failed: ${stderr.trim()}`, {
    hint:
      owner === 'user'
        ? `look at: journalctl --user -u ${unitName}; systemd of a user is reached only from a login of that user`
        : `look at: journalctl -u ${unitName}`,
  });
}

async function lingers(): Promise<boolean> {
  const name = userInfo().username;
  if (existsSync(join('/var/lib/systemd/linger', name))) return true;
  const answer = await runTool('loginctl', ['show-user', '--value', '--property=Linger', name], {
    timeoutMs: limits.systemdAnswerMs,
  }).catch(() => null);
  return answer?.stdout.trim() === 'yes';
}
