// Loads a bundle together with the code that V8 compiled from it for an earlier process. Without this, compiling takes
// half of the time that a process needs to start. Compiled code of another build or another V8, or code that another
// user could have written, is never run: V8 then compiles the bundle again.
import {
  closeSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { Script } from 'node:vm';

/**
 * Saves the code that this process has compiled so far, for later processes. It does nothing if the saved code already
 * covers `use`. It never throws. V8 compiles a function at its first call, so the saved code covers only what processes
 * did before they saved it.
 * @param use names what this process did, such as a command of the command line
 */
export type KeepCompiled = (use?: string) => void;

interface LoadedBundle {
  readonly exports: unknown;
  readonly keepCompiled: KeepCompiled;
}

type Bundle = (
  exports: unknown,
  require: NodeJS.Require,
  module: { exports: unknown },
  file: string,
  directory: string,
  importModule: (name: string) => Promise<unknown>,
) => void;

interface Kept {
  readonly uses: readonly string[];
  readonly data: Buffer;
}

/**
 * Runs the CommonJS bundle `file`. A bundle that it imports as `./name.cjs` is loaded in the same way.
 * @param compiledDir the directory for compiled code; it is made when there is something to save
 * @param build the id of the bundle's build; see build.ts. V8 itself compares only the length of the source.
 */
export function loadBundle(file: string, compiledDir: string, build: string): LoadedBundle {
  const siblings: LoadedBundle[] = [];
  // Node has no stable `import()` in code that `Script` runs. scripts/build.mjs replaces each one by a call of this.
  const importModule = async (name: string): Promise<unknown> => {
    if (!name.startsWith('./')) return import(name);
    const sibling = loadBundle(join(dirname(file), name), compiledDir, build);
    siblings.push(sibling);
    return sibling.exports;
  };
  const path = join(compiledDir, `${basename(file)}.${build}.${process.versions.v8}`);
  const kept = readKept(path);
  const script = new Script(
    `(function (exports, require, module, __filename, __dirname, importModule) {${readFileSync(file, 'utf8')}\n})`,
    { filename: file, ...(kept === null ? {} : { cachedData: kept.data }) },
  );
  const module = { exports: {} };
  (script.runInThisContext() as Bundle)(module.exports, createRequire(file), module, file, dirname(file), importModule);
  return {
    exports: module.exports,
    keepCompiled(use = 'start') {
      for (const sibling of siblings) sibling.keepCompiled(use);
      const uses = kept !== null && script.cachedDataRejected !== true ? kept.uses : [];
      if (uses.includes(use)) return;
      try {
        keep(path, { uses: [...uses, use], data: script.createCachedData() });
        removeEarlierBuilds(path, basename(file));
      } catch {
        // The next process compiles the bundle again.
      }
    },
  };
}

/** Null if there is no saved code, or if another user could have written it. */
function readKept(path: string): Kept | null {
  try {
    const file = openSync(path, 'r');
    try {
      const { uid, mode, nlink } = fstatSync(file);
      if (uid !== process.geteuid?.() || (mode & 0o022) !== 0 || nlink !== 1) return null;
      const content = readFileSync(file);
      const end = content.indexOf('\n');
      return { uses: content.toString('latin1', 0, end).split(' '), data: content.subarray(end + 1) };
    } finally {
      closeSync(file);
    }
  } catch {
    return null;
  }
}

/**
 * Writes the data to the disk before the file gets its name. V8 checks only the header and the length of the data. If a
 * power failure left zeros in the file, V8 would accept it, and the process would crash.
 */
function keep(path: string, { uses, data }: Kept): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const part = `${path}.${process.pid}`;
  const file = openSync(part, 'w', 0o600);
  try {
    const content = Buffer.concat([Buffer.from(`${uses.join(' ')}\n`), data]);
    for (let at = 0; at < content.length;) at += writeSync(file, content, at);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(part, path);
}

/** Also removes unfinished files of processes that were killed while they wrote. */
function removeEarlierBuilds(path: string, bundle: string): void {
  const directory = dirname(path);
  for (const name of readdirSync(directory)) {
    if (name.startsWith(`${bundle}.`) && name !== basename(path)) unlinkSync(join(directory, name));
  }
}
