// Programs of the host that this driver runs: where they are, which package brings them, and how they are called.
// Found once per process; everything that is missing is said in one error.
import { createHash } from 'node:crypto';
import { access, chmod, constants, copyFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { runTool, type ToolResult } from '../../../../shared/process/child-process.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { findBusybox, isStaticProgram } from '../../../../shared/images/busybox.ts';
import { installedDirectory, moveInto, temporaryDirectory } from '../../../../shared/images/layouts.ts';
import { toolsInBox } from '../box/paths.ts';
import { findRunnerProgram } from '../runner/program.ts';

/** Administrators' programs are not in every user's PATH. */
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

/** Full path of a program, or null. */
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

/** @throws RUNTIME_ERROR naming the package that brings the program */
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
 * @throws RUNTIME_ERROR with the last lines of what it said
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

/** What tools see of the environment: enough to find others and the user's registry credentials. */
export function toolEnvironment(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  return { ...process.env, PATH: toolPath, LC_ALL: 'C', ...extra };
}

/** The end of a tool's output as one line. */
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
  /** The runner's program, which also makes the box's range of ids; null where it could not be built. */
  readonly runner: string | null;
  /** Command line of a box's first process, which reaps whatever is orphaned there. */
  readonly initArgs: readonly string[];
}

const ensured = new Map<string, Promise<BoxTools>>();

/**
 * Copies of busybox and init beside the images: /usr may be replaced under a running box, and /run may be mounted
 * noexec. Looked for once in a process, which lives for one box.
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
  const runner = await findRunnerProgram();
  const versions = await Promise.all([busybox, init, runner].filter((path) => path !== null).map(fileVersion));
  const dir = join(imagesDir, 'tools', createHash('sha256').update(versions.join('\n')).digest('hex').slice(0, 16));
  if (!(await installedDirectory(dir))) {
    const temporary = await temporaryDirectory(imagesDir, dir);
    await copyProgram(busybox, join(temporary, 'busybox'));
    if (init !== null) await copyProgram(init, join(temporary, 'init'));
    // What may be executed and not read lets nobody in the box look into its process, from its first moment on.
    if (runner !== null) await copyProgram(runner, join(temporary, 'runner'), 0o711);
    await chmod(temporary, 0o755);
    await moveInto(temporary, dir, false);
  }
  return {
    dir,
    runner: runner === null ? null : join(dir, 'runner'),
    initArgs: init === null ? fallbackInit : [`${toolsInBox}/init`, '-P'],
  };
}

/** Changes whenever a package is upgraded, without reading the file. */
async function fileVersion(path: string): Promise<string> {
  const { size, mtimeMs, ctimeMs } = await stat(path);
  return `${path} ${size} ${mtimeMs} ${ctimeMs}`;
}

/** A shell that waits reaps whatever is handed to it. */
const fallbackInit = [`${toolsInBox}/busybox`, 'sh', '-c', 'while :; do sleep 86400 & wait $!; done'];

async function copyProgram(from: string, to: string, mode = 0o755): Promise<void> {
  await copyFile(from, to);
  await chmod(to, mode);
}
