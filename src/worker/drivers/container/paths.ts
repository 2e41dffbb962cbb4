// Names and places of one box on the host: the files below its home, its control groups, its place in the box. Only
// names: this file makes nothing.
import { join } from 'node:path';
import { instanceCgroup } from '../../../shared/host/host-marks.ts';

/**
 * The stage: each monitor mounts its box's root and disk here, in its own mount namespace. All others see
 * only an empty directory `root`. A box's root is an ordinary user of the host, so every user may enter the stage.
 */
export const stageDir = '/run/boxrun/stage';
/** The OCI runtime that the last probe chose. A boot empties /run, so the probe is repeated then. */
export const runtimeChoiceFile = '/run/boxrun/runtime.json';

/** Place in the box where the driver's own programs are mounted. A box cannot rename or remove a mount point. */
export const toolsInBox = '/dev/.boxrun';

export interface BoxPaths {
  readonly home: string;
  readonly record: string;
  readonly diskImage: string;
  readonly diskDir: string;
  readonly bundle: string;
  /** The files that the box sees in /etc: hosts, hostname, resolv.conf. */
  readonly etc: string;
  readonly runtimeRoot: string;
  /** Directory of what belongs to the running box: the FIFO, logs, the pid of its first process, the running state. */
  readonly run: string;
  readonly initPid: string;
  /** The FIFO whose write end the monitor holds. When that end closes, the monitor has died. */
  readonly alive: string;
  readonly monitorLog: string;
  readonly runtimeLog: string;
  readonly networkLog: string;
  readonly runState: string;
  /** Directory of the process files of commands that the OCI runtime starts. */
  readonly execs: string;
  /** Directory of the FIFOs for the streams of commands. */
  readonly pipes: string;
}

export function boxPaths(homeDir: string): BoxPaths {
  const run = join(homeDir, 'run');
  return {
    home: homeDir,
    record: join(homeDir, 'box.json'),
    diskImage: join(homeDir, 'disk.img'),
    diskDir: join(homeDir, 'disk'),
    bundle: join(homeDir, 'bundle'),
    etc: join(homeDir, 'bundle', 'etc'),
    runtimeRoot: join(homeDir, 'runtime'),
    run,
    initPid: join(run, 'init.pid'),
    alive: join(run, 'alive'),
    monitorLog: join(run, 'monitor.log'),
    runtimeLog: join(run, 'runtime.log'),
    networkLog: join(run, 'network.log'),
    runState: join(run, 'state.json'),
    execs: join(homeDir, 'execs'),
    pipes: join(homeDir, 'pipes'),
  };
}

/**
 * Paths of control groups below the top of each hierarchy. Each state directory (the instance id of its database) has
 * one parent group. In it each box has a group, and in the box's group each command has one.
 */
export function cgroupOf(instanceId: string, boxId: string): { parent: string; box: string } {
  const parent = instanceCgroup(instanceId);
  return { parent, box: `${parent}/${boxId}` };
}
