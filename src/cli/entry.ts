// The first code that `boxrun` runs. It loads main.ts, which is a separate bundle, and reuses the machine code that V8
// compiled for an earlier command of the same user. That makes commands start faster.
import { fileURLToPath } from 'node:url';
import { buildId } from '../shared/process/build.ts';
import { loadBundle } from '../shared/process/compiled-code.ts';
import { compiledDirOfUser } from './server/compiled-dir.ts';
import type * as Main from './main.ts';

const { exports, keepCompiled } = loadBundle(
  fileURLToPath(new URL('./cli-main.cjs', import.meta.url)),
  compiledDirOfUser(),
  buildId,
);
void (exports as typeof Main).main(keepCompiled);
