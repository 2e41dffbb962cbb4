// Where a command begins. It runs main.ts, a bundle of its own, with the code that V8 compiled of it for an earlier
// command of this user.
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
