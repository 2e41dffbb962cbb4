// The table of all commands of `boxrun`, in the order in which the help lists them.
// It holds data only: the code of a command is loaded when the command runs. docs/cli.md names every command and flag.
import { isClientOnly } from '../client-only.ts';
import type { CommandSpec } from '../parsing/command.ts';
import { labelCommand, renameCommand } from './box-details.ts';
import { killCommand, removeCommand, restartCommand, startCommand, stopCommand } from './box-states.ts';
import { createCommand, gcCommand, inspectCommand, listCommand, pruneCommand } from './boxes.ts';
import { completionCommand } from './completion.ts';
import { debugCommand } from './debug.ts';
import { doctorCommand } from './doctor.ts';
import { execCommand } from './exec.ts';
import { copyCommand } from './files.ts';
import { imagesCommand, pullCommand, removeImageCommand } from './images.ts';
import { uninstallCommand, upgradeCommand } from './install.ts';
import { infoCommand } from './info.ts';
import { eventsCommand, execsCommand, logsCommand, versionCommand, waitCommand } from './records.ts';
import { forwardCommand, portsCommand, urlCommand } from './ports.ts';
import { runCommand } from './run.ts';
import { serverCommand } from './server.ts';
import { serveCommand } from './serve.ts';
import { serviceCommand } from './service.ts';
import { statsCommand } from './stats.ts';
import { topCommand } from './top.ts';
import { uiCommand } from './ui.ts';
import { attachCommand, shellCommand } from './terminal.ts';

const allCommands: readonly CommandSpec[] = [
  serveCommand,
  serverCommand,
  serviceCommand,
  createCommand,
  listCommand,
  inspectCommand,
  statsCommand,
  topCommand,
  renameCommand,
  labelCommand,
  startCommand,
  stopCommand,
  restartCommand,
  killCommand,
  removeCommand,
  execCommand,
  execsCommand,
  logsCommand,
  waitCommand,
  runCommand,
  attachCommand,
  shellCommand,
  copyCommand,
  portsCommand,
  forwardCommand,
  urlCommand,
  gcCommand,
  pruneCommand,
  imagesCommand,
  pullCommand,
  removeImageCommand,
  infoCommand,
  eventsCommand,
  uiCommand,
  doctorCommand,
  debugCommand,
  completionCommand,
  versionCommand,
  upgradeCommand,
  uninstallCommand,
];

/** The commands of the server on this host. The package `boxrun-client` does not have them. */
export const serverCommands: readonly string[] = [
  serveCommand,
  serverCommand,
  serviceCommand,
  doctorCommand,
  debugCommand,
  upgradeCommand,
  uninstallCommand,
].map(({ name }) => name);

export const commandTable: readonly CommandSpec[] = isClientOnly
  ? allCommands.filter(({ name }) => !serverCommands.includes(name))
  : allCommands;
