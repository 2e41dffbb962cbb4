// The table of all commands of `boxrun`, in the order in which the help lists them.
// It holds data only: the code of a command is loaded when the command runs. docs/cli.md names every command and flag.
import type { CommandSpec } from '../parsing/command.ts';
import { createCommand, gcCommand, listCommand, removeCommand, startCommand, stopCommand } from './boxes.ts';
import { completionCommand } from './completion.ts';
import { debugCommand } from './debug.ts';
import { doctorCommand } from './doctor.ts';
import { execCommand, runCommand } from './exec.ts';
import { copyCommand } from './files.ts';
import { imagesCommand } from './images.ts';
import { uninstallCommand, upgradeCommand } from './install.ts';
import { eventsCommand, execsCommand, infoCommand, logsCommand } from './records.ts';
import { serveCommand } from './serve.ts';
import { serviceCommand } from './service.ts';
import { uiCommand } from './ui.ts';
import { attachCommand, shellCommand } from './terminal.ts';

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
