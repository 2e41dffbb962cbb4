// Programs of the host that this driver runs: where they are, which package has them, and how they are run. A program
// that was found is not looked for again; a missing one is looked for at each call. The error for a missing program
// names its package.
import { createHash } from 'node:crypto';
import { access, chmod, constants, copyFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool, type ToolResult } from '../../../../shared/process/child-process.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { findBusybox, isStaticProgram } from '../../../../shared/images/busybox.ts';
import { installedDirectory, moveInto, temporaryDirectory } from '../../../../shared/images/layouts.ts';
import { toolsInBox } from '../paths.ts';
import { findProgram } from '../../programs.ts';

/** The PATH of a user may lack the directories with programs for administrators. */
export const toolPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const packages = {
  crun: 'crun',
  runc: 'runc',
  skopeo: 'skopeo',
  umoci: 'umoci',
  catatonit: 'catatonit',
  slirp4netns: 'slirp4netns',
  nft: 'nftables',
  nsenter: 'util-linux',
  unshare: 'util-linux',
  mount: 'util-linux',
  prlimit: 'util-linux',
  mkfifo: 'coreutils',
  'mkfs.ext4': 'e2fsprogs',
  tar: 'tar',
  zstd: 'zstd',
} as const;

export type ToolName = keyof typeof packages;

const found = new Map<ToolName, string>();

/** Returns the full path of a program, or null. */
export async function findTool(name: ToolName): Promise<string | null> {
  const known = found.get(name);
  if (known !== undefined) return known;
  for (const dir of toolPath.split(':')) {
    const path = join(dir, name);
    if (await isExecutable(path)) {
      found.set(name, path);
      return path;
    }
  }
  return null;
}

/**
 * Returns the full path of a program.
 * @throws RUNTIME_ERROR when it is missing; the hint names its package
 */
export async function needTool(name: ToolName): Promise<string> {
  const path = await findTool(name);
  if (path !== null) return path;
  throw new BoxRunError('RUNTIME_ERROR', `the container driver needs ${name}, which is not on this host`, {
    hint: `install the package ${packages[name]} (apt install ${packages[name]})`,
  });
}

export function packageOf(name: ToolName): string {
  return packages[name];
}

/**
 * Runs a tool that must succeed.
 * @throws RUNTIME_ERROR with the last lines of its output
 */
export async function mustRun(
  name: ToolName,
  args: readonly string[],
  options: Parameters<typeof runTool>[2],
): Promise<ToolResult> {
  const result = await runTool(await needTool(name), args, { env: toolEnvironment(), ...options });
  if (result.exitCode === 0) return result;
  throw new BoxRunError('RUNTIME_ERROR', `${name} failed: ${lastLines(result.stderr || result.stdout)}`);
}

/** The server's environment with a PATH and a language for tools. skopeo finds registry credentials by it. */
export function toolEnvironment(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  return { ...process.env, PATH: toolPath, LC_ALL: 'C', ...extra };
}

/** Returns the end of a tool's output as one line of at most 600 characters. */
export function lastLines(text: string, lines = 3): string {
  return text.trim().split('\n').slice(-lines).join('; ').slice(-600) || 'no message';
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

export interface BoxTools {
  /** Mounted read-only into every box. */
  readonly dir: string;
  /** The host program, which makes the box's range of ids. Null: this build has none. */
  readonly hostProgram: string | null;
  /** Command line of the box's first process. It reaps orphaned processes of the box. */
  readonly initArgs: readonly string[];
}

const ensured = new Map<string, Promise<BoxTools>>();

/**
 * Makes copies of busybox, init and the agent beside the images. An upgrade of the host may replace the files in /usr
 * under a running box. The copies are not in /run, because that may be mounted noexec. A worker makes or finds them
 * only once, because it serves one box.
 */
export function ensureBoxTools(imagesDir: string): Promise<BoxTools> {
  const known = ensured.get(imagesDir);
  if (known !== undefined) return known;
  const making = makeBoxTools(imagesDir);
  ensured.set(imagesDir, making);
  making.catch(() => ensured.delete(imagesDir));
  return making;
}

async function makeBoxTools(imagesDir: string): Promise<BoxTools> {
  const busybox = await findBusybox();
  const catatonit = await findTool('catatonit');
  const init = catatonit !== null && (await isStaticProgram(catatonit)) ? catatonit : null;
  const [agent, hostProgram] = await Promise.all([findProgram('agent'), findProgram('host')]);
  const versions = await Promise.all([busybox, init, agent].filter((path) => path !== null).map(fileVersion));
  const dir = join(imagesDir, 'tools', createHash('sha256').update(versions.join('\n')).digest('hex').slice(0, 16));
  if (!(await installedDirectory(dir))) {
    const temporary = await temporaryDirectory(imagesDir, dir);
    await copyProgram(busybox, join(temporary, 'busybox'));
    if (init !== null) await copyProgram(init, join(temporary, 'init'));
    // If a program's file may be executed but not read, no other process of the box can look into its process, from the
    // start on.
    if (agent !== null) await copyProgram(agent, join(temporary, 'agent'), 0o711);
    await chmod(temporary, 0o755);
    await moveInto(temporary, dir, false);
  }
  return {
    dir,
    hostProgram,
    initArgs: init === null ? fallbackInit : [`${toolsInBox}/init`, '-P'],
  };
}

/** Changes when a package is upgraded. The file itself is not read. */
async function fileVersion(path: string): Promise<string> {
  const { size, mtimeMs, ctimeMs } = await stat(path);
  return `${path} ${size} ${mtimeMs} ${ctimeMs}`;
}

/** A waiting shell also reaps orphaned processes. */
const fallbackInit = [`${toolsInBox}/busybox`, 'sh', '-c', 'while :; do sleep 86400 & wait $!; done'];

async function copyProgram(from: string, to: string, mode = 0o755): Promise<void> {
  await copyFile(from, to);
  await chmod(to, mode);
}
