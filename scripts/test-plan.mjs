// What `npm test` runs: its steps, which of them run beside each other, and which run alone.
// A step is one command. A step of vitest has a report, from which the summary takes its counts.

/**
 * Projects of vitest that start real servers, engines and browsers. One run of vitest has them all, several files at a
 * time.
 */
export const serverProjects = ['contract', 'crash', 'system', 'compat', 'browser', 'chaos', 'security'];

/**
 * Files of `serverProjects` that run at once. Half of their time is waiting, so there are more of them than processors.
 */
const serverFilesAtOnce = '3';

/**
 * Files of the crash tests that mostly wait: for silence limits of seconds, one after the other. They run beside what
 * computes, from the beginning.
 */
const waitingFiles = ['supervision', 'health', 'process-kills'].map((name) => `test/crash/${name}.test.ts`);

/** Counts the frames that a browser draws: nothing may run beside it. */
const framesFile = 'test/browser/live.test.ts';

const vitest = (name, projects = [name], { env = {}, args = [], files = [] } = {}) => ({
  name,
  projects,
  env,
  files,
  command: [
    'node_modules/.bin/vitest',
    'run',
    ...projects.flatMap((project) => ['--project', project]),
    ...args,
    '--reporter=default',
  ],
});

const types = (name, project) => ({
  name,
  command: ['node_modules/typescript-native/bin/tsc', '--noEmit', '-p', project],
});

/**
 * The emulated host keeps one processor busy, and its tests have deadlines of their own. So it runs beside everything
 * else, first.
 */
const vm = { name: 'vm', projects: ['vm'], command: ['node', 'test/vm/lab/run.mjs'] };

const lint = {
  name: 'lint',
  command: [
    'node_modules/.bin/eslint',
    '.',
    '--max-warnings',
    '0',
    '--cache',
    '--cache-location',
    'node_modules/.cache/eslint/',
  ],
};

/** The budgets that a change breaks most often. `npm run bench:check` has all of them, and is a long run of its own. */
const bench = { name: 'bench', command: ['node', 'scripts/bench.mjs', '--check', 'exec-throughput', 'create'] };

/**
 * @param {readonly string[]} only names of steps or projects; all when empty
 * @returns {{readonly beside: readonly (readonly object[])[], readonly alone: readonly object[]}} rows of `beside` run
 * at the same
 *   time, each from left to right; the steps of `alone` follow, one at a time, with nothing beside them
 */
export function planOf(only) {
  const isWanted = (name) => only.length === 0 || only.includes(name);
  const wantedProjects = serverProjects.filter((name) => isWanted(name) || only.includes('servers'));
  const servers = vitest('servers', wantedProjects, {
    env: { BOXRUN_TEST_FILES_AT_ONCE: serverFilesAtOnce },
    args: [framesFile, ...waitingFiles].flatMap((file) => ['--exclude', file]),
  });
  const waits = vitest('waits', ['crash'], { files: waitingFiles });
  const frames = vitest('frames', ['browser'], { files: [framesFile] });
  const checks = [
    types('types', '.'),
    types('page types', 'src/ui'),
    types('browser types', 'test/browser'),
    vitest('unit'),
    vitest('style'),
    lint,
  ];
  const rest = [...checks.filter(({ name }) => isWanted(name)), ...(wantedProjects.length === 0 ? [] : [servers])];
  const alone = [...(wantedProjects.includes('browser') ? [frames] : []), ...(isWanted('bench') ? [bench] : [])];
  return { beside: [isWanted('vm') ? [vm] : [], wantedProjects.includes('crash') ? [waits] : [], rest], alone };
}
