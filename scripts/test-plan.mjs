// The plan of `npm test`: its steps, which of them run at the same time, and which run alone. A step is one command. A
// step of vitest writes a report, and the summary takes its counts from there.

/** Projects of vitest that start real servers, engines and browsers. One run of vitest runs all of them. */
export const serverProjects = ['contract', 'crash', 'system', 'compat', 'browser', 'chaos', 'security'];

/** How many files of `serverProjects` run at once. They wait half of their time, so it is more than the processors. */
const serverFilesAtOnce = '4';

/**
 * Files of the crash tests that mostly wait for timeouts of several seconds, and need little processor time. They run
 * at the same time as all other steps, from the beginning.
 */
const waitingFiles = ['supervision', 'health', 'process-kills'].map((name) => `test/crash/${name}.test.ts`);

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
 * The emulated host keeps one processor busy, and its tests are long and have wide deadlines. So it runs from the
 * beginning, at the same time as all other steps.
 */
const vm = { name: 'vm', projects: ['vm'], command: ['node', 'test/vm/lab/run.mjs'] };

const lint = { name: 'lint', command: ['node_modules/.bin/oxlint'] };

/** Checks the budget that a change breaks most often. `npm run bench:check` checks all of them and takes long. */
const bench = { name: 'bench', command: ['node', 'scripts/bench.mjs', '--check', 'exec-throughput'] };

/**
 * @param {readonly string[]} only names of steps or projects. An empty list means all
 * @returns {{readonly beside: readonly (readonly object[])[], readonly alone: readonly object[]}} the rows of `beside`
 *   run at the same time, and the steps of a row one after the other. Then the steps of `alone` run, one at a time
 */
export function planOf(only) {
  const isWanted = (name) => only.length === 0 || only.includes(name);
  const wantedProjects = serverProjects.filter((name) => isWanted(name) || only.includes('servers'));
  const servers = vitest('servers', wantedProjects, {
    env: { BOXRUN_TEST_FILES_AT_ONCE: serverFilesAtOnce },
    args: waitingFiles.flatMap((file) => ['--exclude', file]),
  });
  const waits = vitest('waits', ['crash'], { files: waitingFiles });
  const wanted = (steps) => steps.filter(({ name }) => isWanted(name));
  const checks = [types('types', '.'), types('page types', 'src/ui'), types('browser types', 'test/browser')];
  const beside = [
    // The three rows end at about the same time.
    wanted([vm]),
    [...(wantedProjects.includes('crash') ? [waits] : []), ...wanted([vitest('unit')])],
    [...wanted([...checks, lint, vitest('style')]), ...(wantedProjects.length === 0 ? [] : [servers])],
  ];
  return { beside, alone: wanted([bench]) };
}
