// Tests which files may import which others: between the parts of the project, between the rooms of one part, and from
// packages. Also tests that no files import each other in a circle, that folders with many files have a README, and
// that only certain files use process.env.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { environmentUses, importsOf, readFiles, root, type SourceFile } from './sources.ts';

const sources = readFiles('src', '.ts', '.tsx');

/** What each part may import besides itself: whole parts, or single files. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  shared: [],
  keeper: ['shared'],
  supervisor: ['shared'],
  gateway: ['shared'],
  writer: ['shared'],
  worker: ['shared'],
  sdk: ['shared/api.ts', 'shared/errors.ts', 'shared/settings/socket-place.ts'],
  ui: ['sdk/browser.ts'],
  cli: ['sdk', 'shared'],
};
/**
 * Single files that may import one more file. heavy.ts does, because the process of `boxrun serve` becomes the keeper.
 */
const single: Readonly<Record<string, string>> = { 'src/cli/heavy.ts': 'src/keeper/main.ts' };

const partOf = (path: string) => path.split('/')[1] ?? '';

function layerProblems(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) => {
    const part = partOf(file.path);
    const others = allowed[part];
    if (others === undefined) return [`${file.path}: ${part} is no part of the project`];
    return importsOf(file).flatMap(({ target, specifier }) => {
      if (target === null || target === 'package.json') return []; // Every part may read the version.
      const inside =
        target.startsWith(`src/${part}/`) ||
        others.some((other) => target === `src/${other}` || target.startsWith(`src/${other}/`));
      return inside || single[file.path] === target ? [] : [`${file.path} imports ${specifier}`];
    });
  });
}

/**
 * The rooms of each process, and the other rooms of the same process that each may import. Every room may import files
 * of the folders above it, and a folder may import all rooms inside it. A room that is not listed imports no other
 * room.
 */
const rooms: Readonly<Record<string, readonly string[]>> = {
  'src/cli/commands': ['completion', 'copy', 'parsing', 'render', 'server', 'terminal'],
  'src/cli/completion': ['parsing'],
  'src/cli/copy': ['parsing', 'render', 'server'],
  'src/cli/server': ['parsing', 'render'],
  'src/cli/terminal': ['parsing', 'render'],
  'src/gateway/figures': ['live'],
  'src/gateway/live': ['http'],
  'src/gateway/ports': ['http', 'live'],
  'src/gateway/reads': ['http'],
  'src/gateway/routes': ['figures', 'http', 'live', 'openapi', 'ports', 'reads', 'runs', 'ui'],
  'src/gateway/runs': ['live', 'reads'],
  'src/shared/boxes': ['settings'],
  'src/shared/contracts': ['faults', 'images', 'ipc', 'observe', 'settings', 'store'],
  'src/shared/host': ['ipc', 'process', 'settings', 'waiting'],
  'src/shared/images': ['boxes', 'process'],
  'src/shared/ipc': ['observe', 'waiting'],
  'src/shared/observe': ['settings'],
  'src/shared/process': ['ipc', 'settings', 'waiting'],
  'src/shared/store': ['faults', 'images', 'lifecycle', 'waiting'],
  'src/supervisor/boxes': ['admission', 'workers'],
  'src/supervisor/figures': ['boxes', 'workers'],
  'src/supervisor/recovery': ['admission', 'boxes', 'workers'],
  'src/supervisor/workers': ['admission'],
  'src/ui/output': ['live', 'parts'],
  'src/ui/pages': ['live', 'output', 'parts'],
  'src/ui/parts': ['live', 'terminal'],
  'src/ui/terminal': ['live'],
  'src/worker/agent': ['drivers'],
  'src/worker/commands': ['drivers', 'files', 'output', 'ports', 'terminals'],
  'src/worker/files': ['agent', 'drivers'],
  'src/worker/ports': ['agent', 'drivers', 'files'],
  'src/worker/terminals': ['drivers'],
  'src/worker/drivers/boxlite/agent': ['guest', '../../agent'],
  'src/worker/drivers/boxlite/vm': ['agent', 'guest', 'home'],
  // A box, its commands and their agent are one subject in three rooms, and import each other.
  'src/worker/drivers/container/box': ['disk', 'exec', 'host', 'host-program', 'images', 'network', 'agent'],
  'src/worker/drivers/container/exec': ['agent', 'box', 'host', 'host-program', '../../agent'],
  'src/worker/drivers/container/agent': ['box', 'exec', 'host', 'host-program', '../../agent'],
  'src/worker/drivers/container/disk': ['host'],
  'src/worker/drivers/container/host': ['host-program'],
  'src/worker/drivers/container/images': ['host'],
  'src/worker/drivers/container/network': ['host'],
};

function roomProblems(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) => {
    const own = dirname(file.path);
    return importsOf(file).flatMap(({ target, specifier }) => {
      if (target === null || partOf(target) !== partOf(file.path)) return [];
      const other = dirname(target);
      // The files are in the same folder, or one folder is inside the other.
      if (`${own}/`.startsWith(`${other}/`) || `${other}/`.startsWith(`${own}/`)) return [];
      const allowedHere = (rooms[own] ?? []).some((name) => join(dirname(own), name) === other);
      return allowedHere ? [] : [`${file.path} imports ${specifier}`];
    });
  });
}

/** A folder with more files than this needs a README that says what it is for and which others may import it. */
const filesWithoutReadmeMax = 5;

function readmeProblems(paths: readonly string[]): string[] {
  const folders = new Map<string, number>();
  for (const path of paths) folders.set(dirname(path), (folders.get(dirname(path)) ?? 0) + 1);
  return [...folders].flatMap(([folder, count]) =>
    count <= filesWithoutReadmeMax || existsSync(join(root, folder, 'README.md')) ? [] : [`${folder} has no README.md`],
  );
}

/** Packages that only files under these paths may import. */
const places: Readonly<Record<string, readonly string[]>> = {
  'better-sqlite3': ['src/writer/', 'src/shared/store/'],
  '@boxlite-ai/boxlite': ['src/worker/drivers/boxlite/'],
  'node:child_process': [
    'src/shared/process/child-process.ts',
    'src/shared/process/own-process.ts',
    'src/shared/process/lock.ts',
    'src/worker/drivers/',
    'src/cli/server/running-server.ts', // Starts the server if none runs.
    'src/sdk/local-tar.ts', // Streams directories through the tar of the host.
    'src/shared/images/archive.ts', // Streams an archive of any length through its decompressor.
  ],
  'node:worker_threads': ['src/gateway/'],
  msgpackr: ['src/shared/ipc/', 'src/shared/contracts/spill.ts'],
  fastify: ['src/gateway/'],
  piscina: ['src/gateway/'],
  yargs: ['src/cli/'],
  preact: ['src/ui/'],
  uplot: ['src/ui/parts/'],
  '@xterm/xterm': ['src/ui/terminal/'],
  '@xterm/addon-fit': ['src/ui/terminal/'],
};

function placeProblems(files: readonly SourceFile[]): string[] {
  return files.flatMap((file) =>
    importsOf(file)
      .filter(({ specifier }) =>
        Object.entries(places).some(
          ([name, paths]) =>
            (specifier === name || specifier.startsWith(`${name}/`)) &&
            !paths.some((path) => file.path.startsWith(path)),
        ),
      )
      .map(({ specifier }) => `${file.path} imports ${specifier}`),
  );
}

/** The files that use the environment, and why they do. Only config.ts reads settings. */
const environmentReaders: Readonly<Record<string, string>> = {
  'src/shared/settings/config.ts': 'reads the settings',
  'src/shared/process/own-process.ts': 'removes the orders that its parent put there',
  'src/shared/faults/fault.ts': 'reads where to hold a process, which only tests set',
  'src/shared/host/driver-probe.ts': 'passes it on to the worker that probes the engine',
  'src/keeper/children.ts': 'passes it on to the children',
  'src/supervisor/workers/worker-handle.ts': 'passes it on to workers',
  'src/worker/drivers/boxlite/engine.ts': 'tells the engine where its files are',
  'src/worker/drivers/container/host/tools.ts': 'passes it on to tools, with another path and language',
  'src/sdk/node.ts': 'finds the server where the command line finds it',
  'src/cli/server/service.ts': 'writes the settings into the unit file, and finds the place of unit files',
  'src/cli/commands/doctor.ts': 'looks for tools where the shell would',
  'src/cli/parsing/environment.ts': 'gives a box the variables that the user names without a value',
  'src/cli/render/appearance.ts': 'finds out whether the user wants colours and details',
  'src/cli/server/compiled-dir.ts': 'finds the caches of the user',
  'src/cli/terminal/local-terminal.ts': 'tells a box what kind of terminal this is',
};

function environmentProblems(files: readonly SourceFile[]): string[] {
  return files
    .filter((file) => environmentUses(file) > 0 && environmentReaders[file.path] === undefined)
    .map(({ path }) => `${path} reads process.env`);
}

/**
 * The cycles of imports, each as a list of files. Imports of types alone count too, although they do not exist at run
 * time.
 */
function cycles(files: readonly SourceFile[]): string[] {
  const imports = new Map(files.map((file) => [file.path, importsOf(file).flatMap(({ target }) => target ?? [])]));
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) found.push([...trail.slice(at), path].join(' -> '));
    if (at >= 0 || done.has(path)) return;
    for (const next of imports.get(path) ?? []) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const { path } of files) visit(path, []);
  return found;
}

const fixture = (path: string, text: string): SourceFile => ({ path, text });

describe('the parts of the project', () => {
  it('import only what they may import', () => {
    expect(sources.length).toBeGreaterThan(50);
    expect(layerProblems(sources)).toEqual([]);
  });

  it.each([
    ['src/shared/x.ts', `import { a } from '../writer/a.ts';`],
    ['src/gateway/x.ts', `import type { A } from '../supervisor/a.ts';`],
    ['src/worker/drivers/x.ts', `export { a } from '../../writer/a.ts';`],
    ['src/sdk/x.ts', `import { limits } from '../shared/limits.ts';`],
    ['src/ui/x.ts', `import { errors } from '../shared/errors.ts';`],
    ['src/ui/x.tsx', `import { BoxRun } from '../sdk/index.ts';`],
    ['src/cli/x.ts', `const { runKeeper } = await import('../keeper/main.ts');`],
    ['src/cli/heavy.ts', `export { keepChild } from '../keeper/children.ts';`],
    ['src/keeper/x.ts', `let a: import('../gateway/a.ts').A;`],
    ['src/writer/x.ts', `import '../support/runs/unit.ts';`],
    ['src/news/x.ts', ''],
  ])('are reported for an import that they may not have: %s with %s', (path, text) => {
    expect(layerProblems([fixture(path, text)])).toHaveLength(1);
  });

  it('may import themselves, shared files, and packages', () => {
    const fine = [
      fixture('src/writer/x.ts', `import { a } from './a.ts'; import { b } from '../shared/b.ts'; import 'node:fs';`),
      fixture('src/sdk/x.ts', `import type { Box } from '../shared/api.ts';`),
      fixture('src/cli/heavy.ts', `export { runKeeper } from '../keeper/main.ts';`),
      fixture('src/ui/x.ts', `import { BoxRun } from '../sdk/browser.ts'; // import '../gateway/a.ts'`),
    ];
    expect(layerProblems(fine)).toEqual([]);
  });
});

describe('the rooms of a process', () => {
  it('import only the rooms that they may import', () => {
    expect(roomProblems(sources)).toEqual([]);
  });

  it.each([
    ['src/gateway/http/x.ts', `import { a } from '../live/a.ts';`],
    ['src/gateway/reads/x.ts', `import type { A } from '../routes/a.ts';`],
    ['src/supervisor/admission/x.ts', `import { box } from '../boxes/box.ts';`],
    ['src/worker/drivers/container/host/x.ts', `import { a } from '../box/a.ts';`],
  ])('are reported for an import that they may not have: %s with %s', (path, text) => {
    expect(roomProblems([fixture(path, text)])).toHaveLength(1);
  });

  it('have a README if they have many files', () => {
    expect(readmeProblems(sources.map(({ path }) => path))).toEqual([]);
    const many = Array.from({ length: filesWithoutReadmeMax + 1 }, (_, index) => `src/gateway/new/${index}.ts`);
    expect(readmeProblems(many)).toEqual(['src/gateway/new has no README.md']);
  });
});

describe('packages for certain files only', () => {
  it('are imported only by these files', () => {
    expect(placeProblems(sources)).toEqual([]);
  });

  it.each([
    ['src/gateway/x.ts', `import Database from 'better-sqlite3';`],
    ['src/gateway/x.ts', `import type { Database } from 'better-sqlite3';`],
    ['src/worker/x.ts', `await import('@boxlite-ai/boxlite');`],
    ['src/supervisor/x.ts', `import { spawn } from 'node:child_process';`],
    ['src/shared/x.ts', `import { Packr } from 'msgpackr/pack';`],
  ])('are reported if another file imports them: %s with %s', (path, text) => {
    expect(placeProblems([fixture(path, text)])).toHaveLength(1);
  });
});

describe('the environment', () => {
  it('is used only by the files that are listed, and by all of them', () => {
    expect(environmentProblems(sources)).toEqual([]);
    const readers = sources.filter((file) => environmentUses(file) > 0).map(({ path }) => path);
    expect(readers.sort()).toEqual(Object.keys(environmentReaders).sort());
  });

  it('is reported if another file uses it, but not if a comment mentions it', () => {
    expect(environmentProblems([fixture('src/gateway/x.ts', `const home = process.env['HOME'];`)])).toHaveLength(1);
    expect(environmentProblems([fixture('src/gateway/x.ts', `const { HOME } = process.env;`)])).toHaveLength(1);
    expect(environmentProblems([fixture('src/gateway/x.ts', `// process.env is read in config.ts`)])).toEqual([]);
  });
});

describe('the imports of the project', () => {
  it('form no cycle', () => {
    expect(cycles(sources)).toEqual([]);
  });

  it('are reported if they form a cycle', () => {
    const circle = [
      fixture('src/shared/a.ts', `import { b } from './b.ts';`),
      fixture('src/shared/b.ts', `import type { C } from './c/c.ts';`),
      fixture('src/shared/c/c.ts', `import { a } from '../a.ts';`),
    ];
    expect(cycles(circle)).toEqual(['src/shared/a.ts -> src/shared/b.ts -> src/shared/c/c.ts -> src/shared/a.ts']);
    expect(cycles(circle.slice(0, 2))).toEqual([]);
  });
});
