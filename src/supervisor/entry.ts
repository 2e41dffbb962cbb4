// The first file of a supervisor process. It loads the bundle of main.ts together with the compiled code that V8 made
// for an earlier supervisor, because that makes the start faster.
import { fileURLToPath } from 'node:url';
import { buildId } from '../shared/process/build.ts';
import { loadBundle } from '../shared/process/compiled-code.ts';
import { compiledDirOf } from '../shared/process/own-process.ts';
import type * as Main from './main.ts';

const { exports, keepCompiled } = loadBundle(
  fileURLToPath(new URL('./supervisor-main.cjs', import.meta.url)),
  compiledDirOf(),
  buildId,
);
void (exports as typeof Main).main(keepCompiled);
