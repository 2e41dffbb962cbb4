// Names and places of one box on the host: files below its home, its control groups, its container id.
// Read by every part of this driver; makes nothing itself.
import { join } from 'node:path';
import { instanceCgroup } from '../../../../shared/host/host-marks.ts';

/**
 * Directory of the host, readable by all, over which each box's monitor mounts in its own mount namespace; empty for
 * everyone else.
 */
export const stageDir = '/run/boxrun/stage';
/** Result of the last probe of the OCI runtimes; /run is empty after a boot. */
export const runtimeChoiceFile = '/run/boxrun/runtime.json';

/**
 * Inside a box: where the driver's own programs are mounted. A mount point cannot be renamed or removed from inside.
 */
export const toolsInBox = '/dev/.boxrun';

export interface BoxPaths {
  readonly home: string;
  readonly record: string;
  readonly diskImage: string;
  readonly diskDir: string;
  readonly bundle: string;
  readonly etc: string;
  readonly runtimeRoot: string;
  readonly run: string;
  readonly initPid: string;
  readonly alive: string;
  readonly monitorLog: string;
  readonly runtimeLog: string;
  readonly networkLog: string;
  readonly runState: string;
  readonly execs: string;
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
 * Below the top of each hierarchy: one group for this database, in it one for each box, in that one for each command.
 */
export function cgroupOf(instanceId: string, boxId: string): { parent: string; box: string } {
  const parent = instanceCgroup(instanceId);
  return { parent, box: `${parent}/${boxId}` };
}
