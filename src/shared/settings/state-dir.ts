// Where the parts of a state directory are, and how they are made: only their owner may look in. Read by every process;
// made by whatever command comes first. Sockets move to a short directory when the kernel could not take their paths.
import { accessSync, constants, lstatSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BoxRunError, errorText } from '../errors.ts';
import { isInside, ownUid, runDirectory } from './socket-place.ts';

/** Where the parts of a state directory are. */
export function statePaths(stateDir: string) {
  const runDir = runDirectory(stateDir);
  return {
    lock: join(stateDir, 'keeper.lock'),
    runDir,
    supervisorSocket: join(runDir, 'supervisor.sock'),
    writerSocket: join(runDir, 'writer.sock'),
    keeperFile: join(runDir, 'keeper.json'),
    writerFile: join(runDir, 'writer.json'),
    workersDir: join(runDir, 'workers'),
    logsDir: join(stateDir, 'logs'),
    spillDir: join(stateDir, 'spill'),
    /** What V8 has compiled of a worker's code. */
    compiledDir: join(stateDir, 'compiled'),
    boxesDir: join(stateDir, 'boxes'),
    imagesDir: join(stateDir, 'images'),
    /** Homes of boxes that are in no database: moved there, never removed. */
    lostDir: join(stateDir, 'lost'),
    cookieKey: join(stateDir, 'cookie.key'),
  };
}

/** What a try of the driver on this host has found; see driver-probe.ts. */
export function probeFileOf(stateDir: string, driver: 'boxlite' | 'container'): string {
  return join(stateDir, `probe-${driver}.json`);
}

export function boxHome(stateDir: string, boxId: string): string {
  return join(statePaths(stateDir).boxesDir, boxId);
}

/**
 * Makes what must exist before any process of a server starts.
 * @throws RUNTIME_ERROR when it cannot be written to, or the short directory for sockets is in somebody else's hands
 */
export function makeStateDirectories(stateDir: string): void {
  const paths = statePaths(stateDir);
  if (!isInside(paths.runDir, stateDir)) makeSafely(dirname(paths.runDir));
  try {
    for (const directory of [
      stateDir,
      paths.runDir,
      paths.workersDir,
      paths.logsDir,
      paths.spillDir,
      paths.boxesDir,
      paths.imagesDir,
    ]) {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
    }
    accessSync(stateDir, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new BoxRunError('RUNTIME_ERROR', `the state directory ${stateDir} cannot be used: ${errorText(error)}`, {
      hint: 'it must be a directory that this user can write to; BOXRUN_STATE_DIR names another one',
      cause: error,
    });
  }
}

/** Anybody may make names in /tmp: one that another user made, or may write to, is not used. */
function makeSafely(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const found = lstatSync(directory);
  if (found.isDirectory() && found.uid === ownUid() && (found.mode & 0o077) === 0) return;
  throw new BoxRunError(
    'RUNTIME_ERROR',
    `${directory}, for sockets of a state directory with a long path, is not this user's alone`,
    {
      hint: 'remove it, or use a shorter state directory (BOXRUN_STATE_DIR)',
    },
  );
}
