// A bundle together with the code that V8 compiled of it for an earlier process. Without that, half of a process's
// start is spent on compiling the same megabyte again. Kept code that does not fit (another build, another V8, not ours
// alone) is never run: the bundle is compiled anew.
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
 * Keeps the code that this process has compiled by now for the processes to come. It does nothing where the kept code
 * covers `use` already. It never throws.
 * @param use what the process did, one word: V8 compiles a function when it is first called, so each use adds some
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
 * Runs the CommonJS bundle `file`. A bundle that it imports by `./name.cjs` is loaded in the same way.
 * @param compiledDir where compiled code is; made when there is something to keep
 * @param build of which the bundle is; equal for equal bundles. V8 itself compares the length of the source alone.
 */
export function loadBundle(file: string, compiledDir: string, build: string): LoadedBundle {
  const siblings: LoadedBundle[] = [];
  // In code that is run by `Script`, Node has no stable `import()`: scripts/build.mjs makes those of a bundle calls of
  // this.
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
        // The next process compiles for itself.
      }
    },
  };
}

/** Only what no other user could have written is run. */
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
 * The data is on the disk before it has its name: V8 looks at the header of the data alone, so a file that a power
 * failure has emptied must not be found.
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

/** Also removes the parts of processes that were killed while they wrote. */
function removeEarlierBuilds(path: string, bundle: string): void {
  const directory = dirname(path);
  for (const name of readdirSync(directory)) {
    if (name.startsWith(`${bundle}.`) && name !== basename(path)) unlinkSync(join(directory, name));
  }
}
