// The first code of a worker process. It loads the bundle of main.ts with the code that V8 compiled for an earlier
// worker, so that the worker starts faster.
import { fileURLToPath } from 'node:url';
import { buildId } from '../shared/process/build.ts';
import { loadBundle } from '../shared/process/compiled-code.ts';
import { compiledDirOf } from '../shared/process/own-process.ts';
import type * as Main from './main.ts';

const { exports, keepCompiled } = loadBundle(
  fileURLToPath(new URL('./worker-main.cjs', import.meta.url)),
  compiledDirOf(),
  buildId,
);
void (exports as typeof Main).main(keepCompiled);
