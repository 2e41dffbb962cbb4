// Owns the prepared state: the files that a first server leaves in its state directory (the built-in image, the tools
// of boxes, an empty disk, compiled code and the probe of the driver). Servers of tests start on a copy, as the second
// server of a user does. The prepared state has no box and no database.
import { execFile } from 'node:child_process';
import { access, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BoxRun } from '../../../src/sdk/index.ts';
import { statePaths } from '../../../src/shared/settings/state-dir.ts';
import { eventually } from '../runs/eventually.ts';
import { startServing } from './serving.ts';

const run = promisify(execFile);

/**
 * The directory of the prepared state, which all test files of a run share. vitest.config.ts chooses and removes it.
 */
const top = process.env['BOXRUN_TEST_STATE'] ?? '';
const preparedDir = join(top, 'prepared');
/** The cache of compiled code of the command line. All tests share it, as all commands of a user do. */
export const cacheHome = join(top, 'cache');

/**
 * Copies the prepared state into `stateDir`, which must exist. The first caller of a run makes the prepared state, and
 * the others wait.
 */
export async function copyPreparedState(stateDir: string): Promise<void> {
  await mkdir(top, { recursive: true });
  const isFirst = await mkdir(join(top, 'claim')).then(
    () => true,
    () => false,
  );
  if (isFirst) await makePreparedState();
  else
    await eventually(
      'the prepared state is made',
      () =>
        access(preparedDir).then(
          () => true,
          () => false,
        ),
      120_000,
    );
  await run('cp', ['--archive', '--no-target-directory', preparedDir, stateDir]);
}

async function makePreparedState(): Promise<void> {
  const stateDir = join(top, 'state');
  const env = {
    PATH: process.env['PATH'],
    HOME: top,
    XDG_CACHE_HOME: cacheHome,
    BOXRUN_STATE_DIR: stateDir,
    BOXRUN_DRIVER: 'container',
  };
  const serving = await startServing({ args: ['--port', '0', '--workers', '0'], env, readyMs: 60_000 });
  const client = new BoxRun({ socketPath: join(stateDir, 'boxrun.sock') });
  const box = await client.create({ image: 'base', cpu: 1, memory_mb: 64 });
  await client.stopBox(box.id); // The worker ends with its box, and writes its compiled code.
  await client.removeBox(box.id);
  await client.close();
  const { compiledDir } = statePaths(stateDir);
  await eventually(
    'the code of a worker is compiled',
    () =>
      access(compiledDir).then(
        () => true,
        () => false,
      ),
    30_000,
  );
  await serving.end();
  const kept = ['images', 'compiled', 'probe-container.json'].map((name) => join(stateDir, name));
  const half = join(top, 'half');
  await mkdir(half, { mode: 0o700 });
  await run('mv', [...kept, half]);
  await rm(stateDir, { recursive: true, force: true });
  await rename(half, preparedDir);
}
