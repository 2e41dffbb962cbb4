// The plan of `npm test`: its steps, and which of them run at the same time. A step is one command. A step of vitest
// writes a report, and the summary takes its counts from there.

/** Projects of vitest that start real servers, engines and browsers. One run of vitest runs all of them. */
export const serverProjects = ['contract', 'crash', 'system', 'compat', 'browser', 'chaos', 'security'];

/** How many files of `serverProjects` run at once. They wait half of their time, so it is more than the processors. */
const serverFilesAtOnce = '3';

/**
 * Files that mostly wait for timeouts of several seconds, and need little processor time. They run at the same time as
 * each other and as all other steps, from the beginning.
 */
const waitingFiles = ['crash/supervision', 'crash/health', 'crash/process-kills', 'contract/stop-grace'].map(
  (name) => `test/${name}.test.ts`,
);

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
 * beginning, at the same time as all other steps. `npm run test:vm-long` runs more tests on VMs.
 */
const vm = { name: 'vm', projects: ['vm'], command: ['node', 'test/vm/lab/run.mjs'] };

const lint = { name: 'lint', command: ['node_modules/.bin/oxlint'] };

/**
 * @param {readonly string[]} only names of steps or projects. An empty list means all
 * @returns {readonly (readonly object[])[]} the rows run at the same time, and the steps of a row one after the other
 */
export function planOf(only) {
  const isWanted = (name) => only.length === 0 || only.includes(name);
  const wantedProjects = serverProjects.filter((name) => isWanted(name) || only.includes('servers'));
  const servers = vitest('servers', wantedProjects, {
    env: { BOXRUN_TEST_FILES_AT_ONCE: serverFilesAtOnce },
    args: waitingFiles.flatMap((file) => ['--exclude', file]),
  });
  const waits = vitest('waits', ['crash', 'contract'], {
    files: waitingFiles,
    env: { BOXRUN_TEST_FILES_AT_ONCE: '4' },
  });
  const wanted = (steps) => steps.filter(({ name }) => isWanted(name));
  const checks = [types('types', '.'), types('page types', 'src/ui'), types('browser types', 'test/browser')];
  return [
    wantedProjects.length === 0 ? [] : [servers],
    wanted([vm, ...checks, lint, vitest('style')]),
    [...(wantedProjects.includes('crash') ? [waits] : []), ...wanted([vitest('unit')])],
  ];
}
