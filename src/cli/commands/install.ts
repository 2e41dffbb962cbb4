// The commands upgrade and uninstall: they change the installation that this program runs from. uninstall also removes
// the data, if the user wants that. Each prints a step before it does the step. --dry-run changes nothing.
import { defineCommand } from '../parsing/command.ts';
import { UsageError } from '../parsing/options.ts';
import { printLines } from '../render/render.ts';

const dryRunOption = { type: 'flag', describe: 'change nothing, only print what would be done' } as const;

export const upgradeCommand = defineCommand({
  name: 'upgrade',
  describe: 'install the newest version, or print how to update',
  options: { 'dry-run': dryRunOption },
  examples: [['upgrade --dry-run', 'the command that would be run']],
  async run(values, { version }) {
    const [{ installedPrefix, planUpgrade, publishedName, runNpm }, { isServerUp }] = await Promise.all([
      import('../server/installation.ts'),
      import('../server/running-server.ts'),
    ]);
    const plan = planUpgrade(installedPrefix(), publishedName);
    printLines(`This is boxrun ${version}.`);
    if (plan.kind === 'by hand') {
      printLines(...plan.lines);
      return 1;
    }
    const exitCode = await runNpm(plan.npmArgs, values['dry-run']);
    if (exitCode === 0 && (await isServerUp()))
      printLines('The running server keeps its version until you restart it.');
    return exitCode;
  },
});

export const uninstallCommand = defineCommand({
  name: 'uninstall',
  describe: 'stop the boxes and the server, then remove boxrun with npm',
  options: {
    yes: { type: 'flag', alias: 'y', describe: 'do not ask' },
    'keep-data': { type: 'flag', describe: 'keep boxes, images and logs (the default with --yes)' },
    'purge-data': { type: 'flag', describe: 'remove boxes, images and logs for ever' },
    'dry-run': dryRunOption,
  },
  examples: [['uninstall --dry-run --purge-data', 'what would be removed']],
  async run(values) {
    if (values['keep-data'] && values['purge-data']) throw new UsageError('choose one of --keep-data and --purge-data');
    const { uninstall } = await import('../heavy.ts');
    const data = values['purge-data'] ? 'purge' : values['keep-data'] ? 'keep' : null;
    return uninstall({ isAsked: !values.yes, data, isDryRun: values['dry-run'] });
  },
});
