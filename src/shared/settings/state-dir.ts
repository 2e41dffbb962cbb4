// The paths in a state directory, and the code that makes its directories. The directories can be read by their owner
// only. The sockets may be outside of the state directory; see socket-place.ts.
import { accessSync, constants, lstatSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { BoxRunError, errorText } from '../errors.ts';
import { isInside, ownUid, runDirectory } from './socket-place.ts';

/** The paths of the parts of a state directory. */
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
    /** Code that V8 has compiled from the bundles; see compiled-code.ts. */
    compiledDir: join(stateDir, 'compiled'),
    boxesDir: join(stateDir, 'boxes'),
    imagesDir: join(stateDir, 'images'),
    /** Homes of boxes that are in no database. They are moved here, and never removed. */
    lostDir: join(stateDir, 'lost'),
    cookieKey: join(stateDir, 'cookie.key'),
  };
}

/** The file with the result of a probe of the driver; see driver-probe.ts. */
export function probeFileOf(stateDir: string, driver: 'boxlite' | 'container'): string {
  return join(stateDir, `probe-${driver}.json`);
}

export function boxHome(stateDir: string, boxId: string): string {
  return join(statePaths(stateDir).boxesDir, boxId);
}

/**
 * Makes the directories that must exist before a process of a server starts.
 * @throws RUNTIME_ERROR if the state directory cannot be written to, or if another user has access to the short
 *   directory for sockets
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

/** Any user can make directories in /tmp. One that belongs to another user, or that others can access, is not used. */
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
