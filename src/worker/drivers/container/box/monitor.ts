// The monitor: the process on the host that holds a box. It mounts the box's root in its own mount namespace and then
// becomes the OCI runtime, which ends when the box's first process ends. It outlives the worker. It keeps the write end
// of a FIFO open, so every process that reads the other end sees its death, even if it is not the parent.
import { spawn } from 'node:child_process';
import { chmodSync, closeSync, constants, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { processIdentity, type ProcessIdentity } from '../../../../shared/process/child-process.ts';
import { BoxRunError } from '../../../../shared/errors.ts';
import { faultPoint } from '../../../../shared/faults/fault.ts';
import { homeMark } from '../../../../shared/host/host-marks.ts';
import { creatorOf, rangeOf, rangeSize, sharedRange } from '../../../../shared/host/id-ranges.ts';
import { limits } from '../../../../shared/limits.ts';
import { stageDir, type BoxPaths } from '../paths.ts';
import { hostProgramVersion } from '../../programs.ts';
import { lastLines, needTool, toolPath, type BoxTools } from '../host/tools.ts';
import type { OciRuntime } from '../host/runtime.ts';

const readyPollMs = 2;

// Arguments: stage, disk, kind of disk, files for /etc, owner of the root on the disk, root file system of the image,
// mount program, program that makes a range of ids (or nothing), the user of the host who makes the range's user
// namespace (id-ranges.ts), its first id, the program's version. The command line of the runtime follows.
// - The script runs in busybox's shell, whose own mount and mkdir need no exec. Only the loop device needs the host's
//   mount: that one tries again when another box takes the same free loop device first.
// - In a static /dev the next loop device of the kernel may have no node. Then the script makes the missing nodes.
// - The box's first process inherits the runtime's standard output, and it must not hold a file of the host. So that is
//   /dev/null, and the runtime's messages go to its --log.
// - BOXRUN_HIDE_UNIFIED: crun must not see version 2 of the control groups, but still makes its directories there. So a
//   tmpfs covers that place. To unmount it is not enough: systemd's mount below it is read-only.
const monitorScript = `
set -e
stage=$1 disk=$2 kind=$3 etc=$4 owner=$5 image=$6 mount=$7 ranges=$8 creator=$9 base=\${10} version=\${11}
shift 11
mount -t tmpfs -o mode=755,nosuid,nodev,size=64k tmpfs "$stage"
mkdir "$stage/root" "$stage/disk"
if [ "$kind" = image ]; then
  attempt=0
  until "$mount" -t ext4 -o loop,nodev,nosuid,noatime,discard "$disk" "$stage/disk"; do
    attempt=$((attempt + 1))
    [ "$attempt" -lt 5 ] || exit 1
    for device in /sys/block/loop*; do
      [ -b "/dev/\${device##*/}" ] || mknod -m 600 "/dev/\${device##*/}" b $(tr : ' ' <"$device/dev") || :
    done
  done
else
  mount -o bind "$disk" "$stage/disk"
fi
cd "$stage/disk"
if [ ! -d upper ]; then
  rm -rf new work etc
  mkdir new work etc
  cp "$etc"/* etc/
  chown -R "$owner:$owner" new etc
  chmod 755 new
  mv new upper
fi
if [ -n "$ranges" ]; then
  mkdir "$stage/image"
  "$ranges" ranges "$version" "$creator" "$base" "$owner" ${rangeSize} \\
    "$image" "$stage/image" "$stage/disk" "$stage/userns"
  image=$stage/image
fi
cd "$image"
overlay="nodev,nosuid,redirect_dir=on,lowerdir=.,upperdir=$stage/disk/upper,workdir=$stage/disk/work"
mount -t overlay -o "$overlay" overlay "$stage/root"
cd /
if [ -n "$BOXRUN_HIDE_UNIFIED" ]; then mount -t tmpfs -o mode=755,nosuid,nodev,size=64k tmpfs /sys/fs/cgroup/unified; fi
exec "$@" >/dev/null 2>&1
`;

interface MonitorOptions {
  readonly boxId: string;
  readonly paths: BoxPaths;
  readonly runtime: OciRuntime;
  readonly tools: BoxTools;
  readonly rootfsDir: string;
  readonly disk: { readonly path: string; readonly kind: 'image' | 'directory' };
  /** The program that makes the box's own range of ids, and its block. Null: the box gets the shared range. */
  readonly ownIds: { readonly program: string; readonly block: number } | null;
}

export interface RunningBox {
  readonly init: ProcessIdentity;
  readonly monitor: ProcessIdentity;
}

/** Path of the box's user namespace, if the box has its own range of ids. */
export const stagedUserNamespace = `${stageDir}/userns`;

/** Where crun and runc find the files for /etc. They are on the box's disk, so changes to them use its space. */
export const stagedEtcDir = `${stageDir}/disk/etc`;

/**
 * Starts the monitor and waits for the box's first process. After an error the caller must clean up.
 * @throws RUNTIME_ERROR with the messages of the runtime, TIMEOUT, CANCELED
 */
export async function startMonitor(options: MonitorOptions, signal: AbortSignal): Promise<RunningBox> {
  const { paths, runtime, tools } = options;
  makeStage();
  for (const file of [paths.initPid, paths.runtimeLog]) rmSync(file, { force: true });
  const unshare = await needTool('unshare');
  const mount = await needTool('mount');
  const log = openSync(paths.monitorLog, 'w', 0o600);
  const alive = openSync(paths.alive, constants.O_WRONLY | constants.O_NONBLOCK);
  const child = spawn(
    unshare,
    [
      ...['-m', '--propagation', 'slave', join(tools.dir, 'busybox'), 'sh', '-c', monitorScript, 'monitor'],
      ...[stageDir, options.disk.path, options.disk.kind, paths.etc],
      ...[String(sharedRange.base), options.rootfsDir, mount, ...rangeArgs(options.ownIds)],
      ...[runtime.path, '--root', paths.runtimeRoot, '--log', paths.runtimeLog, 'run', '--bundle', paths.bundle],
      ...['--pid-file', paths.initPid, options.boxId],
    ],
    {
      cwd: '/',
      detached: true,
      stdio: ['ignore', log, log, alive],
      env: monitorEnvironment(paths.home, runtime),
    },
  );
  closeSync(log);
  closeSync(alive);
  const ended = new Promise<'ended'>((resolve) => {
    child.once('error', () => {
      resolve('ended');
    });
    child.once('exit', () => {
      resolve('ended');
    });
  });
  child.unref();
  faultPoint('worker.start.monitor-spawned');
  const init = await waitForInit(options, ended, signal);
  const monitor = child.pid === undefined ? null : await processIdentity(child.pid);
  if (monitor === null) throw startFailure(paths);
  return { init, monitor };
}

function rangeArgs(ownIds: MonitorOptions['ownIds']): string[] {
  if (ownIds === null) return ['', '', '', ''];
  return [ownIds.program, String(creatorOf(ownIds.block)), String(rangeOf(ownIds.block).base), hostProgramVersion];
}

/** runc's exec enters a directory of that name on the host, too. A process with a strict umask may have made it. */
function makeStage(): void {
  const root = `${stageDir}/root`;
  mkdirSync(root, { recursive: true });
  for (const dir of [root, stageDir, dirname(stageDir)]) chmodSync(dir, 0o755);
}

function monitorEnvironment(home: string, runtime: OciRuntime): NodeJS.ProcessEnv {
  return { PATH: toolPath, [homeMark]: home, ...(runtime.hideUnified ? { BOXRUN_HIDE_UNIFIED: '1' } : {}) };
}

async function waitForInit(
  { paths, tools }: MonitorOptions,
  ended: Promise<'ended'>,
  signal: AbortSignal,
): Promise<ProcessIdentity> {
  const deadline = Date.now() + limits.boxStartTimeoutMs;
  let over = false;
  void ended.then(() => {
    over = true;
  });
  for (;;) {
    if (signal.aborted) throw new BoxRunError('CANCELED', 'the start of the box was canceled');
    const pid = Number(textOf(paths.initPid).trim());
    const identity = pid > 0 ? await processIdentity(pid) : null;
    if (identity !== null && hasBegun(pid, tools)) return identity;
    if (over) throw startFailure(paths);
    if (Date.now() > deadline) throw new BoxRunError('TIMEOUT', 'the OCI runtime did not bring the box up in time');
    await Promise.race([delay(readyPollMs), ended]);
  }
}

/**
 * At first this process runs the runtime's program, and no other process may enter its namespaces: a command would be
 * refused. Only later it runs the box's own program.
 */
function hasBegun(pid: number, { initArgs }: BoxTools): boolean {
  return textOf(`/proc/${pid}/cmdline`).split('\0')[0] === initArgs[0];
}

/** Returns an empty text if the file does not exist (yet). */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

const hints: ReadonlyArray<readonly [RegExp, string]> = [
  [
    /loop device/,
    'the disk of a box needs a loop device: allow this host more of them, or give the server the /dev of the host',
  ],
  [
    /overlay/,
    'without loop devices the state directory must be on a file system on which overlayfs can write, ' +
      'such as ext4 or xfs: give the server loop devices (/dev/loop-control), ' +
      'or another state directory (BOXRUN_STATE_DIR)',
  ],
];

function startFailure(paths: BoxPaths): BoxRunError {
  const messages = `${textOf(paths.monitorLog)}${textOf(paths.runtimeLog)}`;
  const hint = hints.find(([pattern]) => pattern.test(messages))?.[1];
  return new BoxRunError(
    'RUNTIME_ERROR',
    `the box did not start: ${lastLines(messages)}`,
    hint === undefined ? {} : { hint },
  );
}

export interface AliveWatch {
  close(): void;
}

/**
 * Opens the reading end of the FIFO. Before a start of the monitor, call this first: without a reader the monitor
 * cannot open its end. At an adoption the monitor holds its end already. When the monitor's end closes, `onGone` is
 * called once.
 */
export function watchAlive(paths: BoxPaths): { fd: number; arm: (onGone: () => void) => AliveWatch } {
  const fd = openSync(paths.alive, constants.O_RDONLY | constants.O_NONBLOCK);
  return {
    fd,
    arm(onGone) {
      const socket = new Socket({ fd, readable: true, writable: false });
      let closed = false;
      const gone = () => {
        if (closed) return;
        closed = true;
        socket.destroy();
        onGone();
      };
      socket.on('end', gone);
      socket.on('error', gone);
      socket.resume();
      socket.unref();
      return {
        close() {
          closed = true;
          socket.destroy();
        },
      };
    },
  };
}
