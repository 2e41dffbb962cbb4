// Where a writer process begins. It runs main.ts, a bundle of its own, with the code that V8 compiled of it for an
// earlier writer.
import { fileURLToPath } from 'node:url';
import { buildId } from '../shared/process/build.ts';
import { loadBundle } from '../shared/process/compiled-code.ts';
import { compiledDirOf } from '../shared/process/own-process.ts';
import type * as Main from './main.ts';

const { exports, keepCompiled } = loadBundle(
  fileURLToPath(new URL('./writer-main.cjs', import.meta.url)),
  compiledDirOf(),
  buildId,
);
void (exports as typeof Main).main(keepCompiled);
