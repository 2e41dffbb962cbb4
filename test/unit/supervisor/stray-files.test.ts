// Tests which temporary files the supervisor removes. It finds the file of a process that has ended, for every random
// part of the name. It never finds the file of a process that lives.
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findUnfinishedFiles, removeUnfinishedFile } from '../../../src/supervisor/recovery/stray-files.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';

/** The process id of a process that has ended. */
const deadPid = () => spawnSync('true').pid;

describe('files with a temporary name', () => {
  // Ids use all 64 characters that are safe in a URL (ids.ts).
  it.each(['wrk_abcdefghijkl', 'wrk_A-XRAHjQxs4o', 'wrk_-_-_-_-_-_-_'])(
    'are found and removed when their process has ended, for the worker %s',
    async (workerId) => {
      const directory = temporaryDirectory();
      const left = join(directory, `${workerId}.spill.${deadPid()}`);
      const others = [join(directory, `${workerId}.spill.${process.pid}`), join(directory, `${workerId}.spill`)];
      for (const path of [left, ...others]) writeFileSync(path, '');
      expect(await findUnfinishedFiles({ workersDir: directory, unfinishedDirs: [directory] })).toEqual([left]);
      for (const path of [left, ...others.slice(0, 1)]) await removeUnfinishedFile(path);
      expect([left, ...others].map(existsSync)).toEqual([false, true, true]);
    },
  );
});
