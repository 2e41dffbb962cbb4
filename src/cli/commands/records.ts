// The commands info, execs, logs and events: they show the server, the commands of a box, the output of a command, and
// changes as they happen. They only read.
import { jsonOption, quietOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { printJson, printLines, renderAge, renderCommand, renderDuration, renderTable } from '../render/render.ts';

export const infoCommand = defineCommand({
  name: 'info',
  describe: 'show the address and the driver of the server, and how much of its CPUs and memory boxes reserve',
  options: { json: jsonOption },
  examples: [['info', 'address, driver, boxes, CPUs, memory']],
  async run({ json }, { version, withClient }) {
    return withClient(async (client) => {
      const [info, boxes] = await Promise.all([client.info(), client.listBoxes()]);
      const active = boxes.filter(({ status }) => status === 'running' || status === 'creating');
      const used = { cpu: 0, memory_mb: 0 };
      for (const { cpu, memory_mb } of active) {
        used.cpu += cpu;
        used.memory_mb += memory_mb;
      }
      const { describeAddress } = await import('../server/running-server.ts');
      const address = describeAddress();
      if (json) {
        printJson({
          ...info,
          used_cpu: used.cpu,
          used_memory_mb: used.memory_mb,
          boxes: boxes.length,
          running: active.length,
          address,
          version,
        });
        return 0;
      }
      const driver = 'driver' in info ? String(info.driver) : '-';
      process.stdout.write(
        renderTable(
          ['WHAT', 'VALUE'],
          [
            ['server', address],
            ['driver', driver],
            ['boxes', `${active.length} running, ${boxes.length} in all`],
            ['CPUs', `${used.cpu} of ${info.max_cpu} used`],
            ['memory', `${used.memory_mb} of ${info.max_memory_mb} MiB used`],
            ['version', version],
          ],
          process.stdout.columns,
        ),
      );
      return 0;
    });
  },
});

export const execsCommand = defineCommand({
  name: 'execs',
  describe: 'list the commands of a box, newest first',
  positionals: { box: { describe: 'id or name', required: true, kind: 'box' } },
  options: { quiet: quietOption, json: jsonOption },
  examples: [['execs web', 'the commands of the box web, and how they ended']],
  async run({ box, quiet, json }, { withClient }) {
    return withClient(async (client) => {
      const execs = await client.listExecs(box);
      const now = Date.now();
      const rows = execs.map(({ id, status, exit_code, created_at, finished_at, cmd }) => [
        id,
        status,
        exit_code === null ? '-' : String(exit_code),
        renderAge(created_at, now),
        finished_at === null ? '-' : renderDuration(Date.parse(finished_at) - Date.parse(created_at)),
        renderCommand(cmd),
      ]);
      if (json) printJson(execs);
      else if (quiet) printLines(...execs.map(({ id }) => id));
      else
        process.stdout.write(
          renderTable(['ID', 'STATUS', 'CODE', 'STARTED', 'TOOK', 'COMMAND'], rows, process.stdout.columns),
        );
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
  describe: 'print the output of a command; boxrun execs BOX lists the commands',
  positionals: {
    box: { describe: 'id or name', required: true, kind: 'box' },
    exec: { describe: 'id of the command', required: true, kind: 'exec' },
  },
  options: {
    follow: { type: 'flag', alias: 'f', describe: 'go on until the command ends' },
    json: { type: 'flag', describe: 'print JSON, one event on each line' },
  },
  examples: [['logs web "$(boxrun execs -q web | head -n 1)"', 'output of the newest command in the box web']],
  async run({ box, exec: execId, follow, json }, { interrupts, withClient }) {
    return withClient(async (client) => {
      const exec = await client.getExec(box, execId);
      const interrupt = interrupts.catch();
      try {
        const { printEvents } = await import('../render/logs.ts');
        return await printEvents(client, exec, { follow, json }, interrupt);
      } finally {
        interrupt.release();
      }
    });
  },
});
