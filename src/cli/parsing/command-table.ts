// The table of all commands of `boxrun`, in the order in which the help lists them.
// It holds data only: the code of a command is loaded when the command runs. docs/cli.md names every command and flag.
import type { CommandSpec } from './command.ts';
import { createCommand, gcCommand, listCommand, removeCommand, startCommand, stopCommand } from '../commands/boxes.ts';
import { completionCommand } from '../commands/completion.ts';
import { debugCommand } from '../commands/debug.ts';
import { doctorCommand } from '../commands/doctor.ts';
import { execCommand, runCommand } from '../commands/exec.ts';
import { copyCommand } from '../commands/files.ts';
import { imagesCommand } from '../commands/images.ts';
import { uninstallCommand, upgradeCommand } from '../commands/install.ts';
import { eventsCommand, execsCommand, infoCommand, logsCommand } from '../commands/records.ts';
import { serveCommand } from '../commands/serve.ts';
import { serviceCommand } from '../commands/service.ts';
import { uiCommand } from '../commands/ui.ts';
import { attachCommand, shellCommand } from '../commands/terminal.ts';

export const commandTable: readonly CommandSpec[] = [
  serveCommand,
  serviceCommand,
  createCommand,
  listCommand,
  startCommand,
  stopCommand,
  removeCommand,
  execCommand,
  execsCommand,
  logsCommand,
  runCommand,
  attachCommand,
  shellCommand,
  copyCommand,
  gcCommand,
  imagesCommand,
  infoCommand,
  eventsCommand,
  uiCommand,
  doctorCommand,
  debugCommand,
  completionCommand,
  upgradeCommand,
  uninstallCommand,
];
