// The commands service install, service uninstall and service status: the server as a service of systemd.
// The code that does it is in server/service.ts, and is loaded only when one of them runs.
import { jsonOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { printLines } from '../render/render.ts';
import { serveCommand } from './serve.ts';

const userOption = { type: 'flag', describe: 'use a service of this user, not of the host' } as const;
const ownerOf = (isUser: boolean) => (isUser ? 'user' : 'system');

const installCommand = defineCommand({
  name: 'install',
  describe: 'write the unit file, enable the service, and start it; put options of serve after --',
  options: {
    user: userOption,
    print: { type: 'flag', describe: 'only print the unit file; this works without systemd' },
    force: { type: 'flag', describe: 'replace the unit file even if boxrun has not written it' },
  },
  examples: [
    ['service install -- --driver container --port 9191', 'a server with these options'],
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
  describe: 'stop the server and remove its unit file; boxes run on',
  options: {
    user: userOption,
    force: { type: 'flag', describe: 'remove the unit file even if boxrun has not written it' },
  },
  examples: [['service uninstall', 'boxes, images and settings stay']],
  async run({ user, force }) {
    const { uninstallService } = await import('../server/service.ts');
    return uninstallService(ownerOf(user), force);
  },
});

const statusCommand = defineCommand({
  name: 'status',
  describe: 'show whether the service is installed and runs; exit code 0 if it runs',
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
  examples: [['service install', 'start the server now, and at each boot of the host']],
  run: async () => {
    printLines('boxrun service install, uninstall, status; see --help');
    return 0;
  },
});
