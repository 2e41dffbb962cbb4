// service install|uninstall|status: the server as a service of systemd. The work is in ../service.ts, loaded when it is
// asked for.
import { jsonOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { printLines } from '../render/render.ts';
import { serveCommand } from './serve.ts';

const userOption = { type: 'flag', describe: 'a service of this user, not of the host' } as const;
const ownerOf = (isUser: boolean) => (isUser ? 'user' : 'system');

const installCommand = defineCommand({
  name: 'install',
  describe: 'write the unit file, enable the service, and start it; options of serve after --',
  options: {
    user: userOption,
    print: { type: 'flag', describe: 'only print the unit file; works without systemd' },
    force: { type: 'flag', describe: 'replace a unit file that boxrun has not written' },
  },
  examples: [
    ['service install -- --driver container --port 9191', 'with these options of serve'],
    ['service install --user', 'a service of this user'],
  ],
  mayTakeWords: true,
  async run({ user, print, force }, { command }) {
    const { installService } = await import('../server/service.ts');
    return installService({
      owner: ownerOf(user),
      isForced: force,
      isPrinted: print,
      words: command,
      serve: serveCommand,
    });
  },
});

const uninstallCommand = defineCommand({
  name: 'uninstall',
  describe: 'end the server and remove its unit file; boxes run on',
  options: { user: userOption, force: { type: 'flag', describe: 'remove a unit file that boxrun has not written' } },
  examples: [['service uninstall', 'boxes, images and settings stay']],
  async run({ user, force }) {
    const { uninstallService } = await import('../server/service.ts');
    return uninstallService(ownerOf(user), force);
  },
});

const statusCommand = defineCommand({
  name: 'status',
  describe: 'tell whether the service is installed and runs; exit code 0 while it runs',
  options: { user: userOption, json: jsonOption },
  examples: [['service status --json', 'for programs']],
  async run({ user, json }) {
    const { showService } = await import('../server/service.ts');
    return showService(ownerOf(user), json);
  },
});

export const serviceCommand = defineCommand({
  name: 'service',
  describe: 'run the server as a service of systemd',
  subcommands: [installCommand, uninstallCommand, statusCommand],
  examples: [['service install', 'the server starts with the host']],
  run: async () => {
    printLines('boxrun service install, uninstall, status; see --help');
    return 0;
  },
});
