// The commands execs, logs, wait, events and version: they show the commands of a box, their output and exit codes, and
// changes as they happen. They only read.
import { limits } from '../../shared/limits.ts';
import { BoxRunError } from '../../shared/errors.ts';
import type { BoxRunClient, Exec } from '../../sdk/index.ts';
import { formatOption, jsonOption, noTruncOption, quietOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { listFormOf } from '../parsing/format.ts';
import { parseSince, parseWhole, UsageError } from '../parsing/options.ts';
import { printList } from '../render/list-output.ts';
import {
  printJson,
  printLines,
  renderAge,
  renderCommand,
  renderDuration,
  renderTable,
  statusColor,
} from '../render/render.ts';

export const execsCommand = defineCommand({
  name: 'execs',
  describe: 'list the commands of a box, newest first',
  positionals: { box: { describe: 'id or name', required: true, kind: 'box' } },
  options: { 'no-trunc': noTruncOption, format: formatOption, quiet: quietOption, json: jsonOption },
  examples: [['execs web', 'the commands of the box web, and how they ended']],
  async run({ box, quiet, json, format, 'no-trunc': isWhole }, { withClient }) {
    const form = listFormOf({ json, quiet, format });
    const { withBox } = await import('../server/id-prefixes.ts');
    return withClient(async (client) => {
      const execs = await withBox(client, box, (name) => client.listExecs(name));
      const now = Date.now();
      const rows = execs.map(({ id, status, exit_code, created_at, finished_at, cmd }) => [
        id,
        status,
        exit_code === null ? '-' : String(exit_code),
        renderAge(created_at, now),
        finished_at === null ? '-' : renderDuration(Date.parse(finished_at) - Date.parse(created_at)),
        renderCommand(cmd),
      ]);
      printList(execs, form, {
        idOf: ({ id }) => id,
        table: () =>
          renderTable(['ID', 'STATUS', 'CODE', 'STARTED', 'TOOK', 'COMMAND'], rows, {
            ...(isWhole ? { widthMax: Infinity } : {}),
            colorOf: statusColor,
          }),
      });
      return 0;
    });
  },
});

export const eventsCommand = defineCommand({
  name: 'events',
  describe: 'print one line for each change of a box or a command as it happens; Ctrl-C ends it',
  options: {
    since: { type: 'text', describe: 'begin after the event with this id (--json prints ids)', shownDefault: 'now' },
    json: { type: 'flag', describe: 'print JSON, one event on each line' },
  },
  examples: [
    ['events', 'all changes from now on'],
    ['events --json | grep exec.finished', 'for programs'],
  ],
  async run({ since, json }, { interrupts, withClient }) {
    return withClient(async (client) => {
      const interrupt = interrupts.catch();
      try {
        const { printChanges } = await import('../render/changes.ts');
        return await printChanges(client, { since, json }, interrupt);
      } finally {
        interrupt.release();
      }
    });
  },
});

export const logsCommand = defineCommand({
  name: 'logs',
  describe: 'print the output of a command: the newest one, or that with this id; see boxrun execs BOX',
  positionals: {
    box: { describe: 'id or name', required: true, kind: 'box' },
    exec: { describe: 'id of the command; the newest one when absent', kind: 'exec' },
  },
  options: {
    follow: { type: 'flag', alias: 'f', describe: 'go on until the command ends' },
    tail: { type: 'text', alias: 'n', describe: 'print only this number of lines from the end', shownDefault: 'all' },
    all: { type: 'flag', describe: 'print the output of all commands of the box, the oldest first' },
    since: { type: 'text', describe: 'of all commands that began since then: 10m, 2h, 1d or 2026-01-31T12:00' },
    json: { type: 'flag', describe: 'print JSON, one event on each line' },
  },
  hints: { '-t': 'output events carry no times; boxrun execs BOX shows when a command began' },
  examples: [
    ['logs -f web', 'output of the newest command in the box web, until it ends'],
    ['logs web "$(boxrun execs -q web | tail -n 1)"', 'output of the oldest command'],
    ['logs --since 10m web', 'output of all commands of the last ten minutes'],
  ],
  async run({ box, exec: execId, follow, tail, all, since, json }, { interrupts, withClient }) {
    const sinceMs = since === undefined ? null : parseSince('since', since, Date.now());
    const isMerged = all || sinceMs !== null;
    if (isMerged && (execId !== undefined || follow || tail !== undefined))
      throw new UsageError(
        '--all and --since print the output of several commands; leave EXEC, --follow and --tail out',
      );
    const tailLines = tail === undefined || tail === 'all' ? null : parseWhole('tail', tail, 0);
    if (json && tailLines !== null) throw new UsageError('choose one of --json and --tail');
    const { withBox, withExec } = await import('../server/id-prefixes.ts');
    return withClient(async (client) => {
      const { printAllEvents, printEvents } = await import('../render/logs.ts');
      const interrupt = interrupts.catch();
      try {
        if (isMerged)
          return await withBox(client, box, (name) => printAllEvents(client, name, { json, sinceMs }, interrupt));
        const exec =
          execId === undefined
            ? await withBox(client, box, (name) => newestOf(client, name))
            : await withExec(client, box, execId, (foundBox, found) => client.getExec(foundBox, found));
        return await printEvents(client, exec, { follow, json, tailLines }, interrupt);
      } finally {
        interrupt.release();
      }
    });
  },
});

/** @throws EXEC_NOT_FOUND if the box has had no command */
async function newestOf(client: BoxRunClient, box: string): Promise<Exec> {
  const [newest] = (await client.pageOfExecs(box, { limit: 1 })).rows;
  if (newest !== undefined) return newest;
  throw new BoxRunError('EXEC_NOT_FOUND', `no command has run in ${box}`, { hint: `boxrun exec ${box} ls` });
}

export const waitCommand = defineCommand({
  name: 'wait',
  describe: 'wait for the end of a command, and print its exit code',
  positionals: {
    box: { describe: 'id or name', required: true, kind: 'box' },
    exec: { describe: 'id of the command; the newest one when absent', kind: 'exec' },
  },
  options: { json: jsonOption },
  examples: [['wait web "$(boxrun exec -d web sleep 1)"', 'prints 0 after one second']],
  async run({ box, exec: execId, json }, { interrupts, withClient }) {
    const { withBox, withExec } = await import('../server/id-prefixes.ts');
    return withClient(async (client) => {
      const interrupt = interrupts.catch();
      const { signal } = interrupt;
      try {
        let exec =
          execId === undefined
            ? await withBox(client, box, (name) => newestOf(client, name))
            : await withExec(client, box, execId, (foundBox, found) => client.getExec(foundBox, found));
        while (exec.status === 'running')
          exec = await client.getExec(exec.box_id, exec.id, { waitS: limits.execWaitMaxS, signal });
        if (json) printJson(exec);
        else
          printLines(exec.exit_code === null ? `${exec.status}: ${exec.error_message ?? ''}` : String(exec.exit_code));
        return exec.exit_code === null ? 1 : 0;
      } catch (error) {
        if (!signal.aborted) throw error;
        return interrupt.exitCode();
      } finally {
        interrupt.release();
      }
    });
  },
});

export const versionCommand = defineCommand({
  name: 'version',
  describe: 'print the version of this program; boxrun info shows the server',
  options: { json: jsonOption },
  examples: [['version', 'the same as boxrun --version, or boxrun -v']],
  async run({ json }, { version }) {
    if (json) printJson({ version });
    else printLines(version);
    return 0;
  },
});
