// A bundle together with what V8 compiled of it for an earlier process: without that, half of a worker's start is
// compiling the same megabyte again. Used by entry.ts. What does not fit (another build, another V8, damaged) is
// ignored, and replaced when a process ends well.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { Script } from 'node:vm';

interface LoadedBundle {
  readonly exports: unknown;
  /** Keeps what is compiled by now for the processes to come, where there is nothing yet. Never throws. */
  keepCompiled(): void;
}

type ImportModule = (name: string) => Promise<unknown>;
type Bundle = (
  exports: unknown,
  require: NodeJS.Require,
  module: { exports: unknown },
  file: string,
  directory: string,
  importModule: ImportModule,
) => void;

/**
 * In code that is run by `Script`, Node has no stable `import()`: scripts/build.mjs makes those of a bundle calls of
 * this.
 */
const importModule: ImportModule = (name) => import(name);

/** Runs the CommonJS bundle `file`; compiled code is in `compiledDir`, to which nobody else may write. */
export function loadBundle(file: string, compiledDir: string): LoadedBundle {
  const source = readFileSync(file, 'utf8');
  const kept = join(
    compiledDir,
    `${basename(file)}.${digest(source).toString('hex').slice(0, 16)}.${process.versions.v8}`,
  );
  const cachedData = readKept(kept);
  const script = new Script(
    `(function (exports, require, module, __filename, __dirname, importModule) {${source}\n})`,
    {
      filename: file,
      ...(cachedData === null ? {} : { cachedData }),
    },
  );
  const module = { exports: {} };
  (script.runInThisContext() as Bundle)(module.exports, createRequire(file), module, file, dirname(file), importModule);
  return {
    exports: module.exports,
    keepCompiled() {
      if (cachedData !== null && script.cachedDataRejected !== true) return;
      try {
        keep(kept, script.createCachedData());
      } catch {
        // The next process compiles for itself.
      }
    },
  };
}

const digestBytes = 32;

function digest(data: string | Buffer): Buffer {
  return createHash('sha256').update(data).digest();
}

/** V8 looks at the header alone: a file that a power failure has cut or emptied must not reach it. */
function readKept(path: string): Buffer | null {
  try {
    const content = readFileSync(path);
    const data = content.subarray(digestBytes);
    return content.subarray(0, digestBytes).equals(digest(data)) ? data : null;
  } catch {
    return null;
  }
}

function keep(path: string, data: Buffer): void {
  const directory = dirname(path);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const part = `${path}.${process.pid}`;
  writeFileSync(part, Buffer.concat([digest(data), data]), { mode: 0o600 });
  renameSync(part, path);
  // Those of earlier builds, and of processes that were killed here.
  for (const name of readdirSync(directory)) if (name !== basename(path)) unlinkSync(join(directory, name));
}
