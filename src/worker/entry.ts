// Where a worker process begins, as `node worker.cjs`: it runs main.ts, a bundle of its own, with what V8 has compiled
// of that for an earlier worker. Makes nothing itself.
import { fileURLToPath } from 'node:url';
import { compiledDirOf } from '../shared/own-process.ts';
import { loadBundle } from './compiled-code.ts';
import type * as Main from './main.ts';

const { exports, keepCompiled } = loadBundle(
  fileURLToPath(new URL('./worker-main.cjs', import.meta.url)),
  compiledDirOf(),
);
void (exports as typeof Main).main(keepCompiled);
