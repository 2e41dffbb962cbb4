// The command top: the processes in a box, once, as a table or for programs.
// It only reads.
import { formatOption, jsonOption, noTruncOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { listFormOf } from '../parsing/format.ts';
import { printList } from '../render/list-output.ts';
import { renderBytes, renderDuration, renderTable } from '../render/render.ts';

export const topCommand = defineCommand({
  name: 'top',
  describe: 'list the processes in a box',
  positionals: { box: { describe: 'id or name', required: true, kind: 'runningBox' } },
  options: { 'no-trunc': noTruncOption, format: formatOption, json: jsonOption },
  examples: [['top web', 'the processes in the box web, with the command that each belongs to']],
  async run({ box, json, format, 'no-trunc': isWhole }, { withClient }) {
    const form = listFormOf({ json, format });
    const { withBox } = await import('../server/id-prefixes.ts');
    return withClient(async (client) => {
      const processes = await withBox(client, box, (name) => client.processes(name));
      const rows = processes.map((each) => [
        String(each.pid),
        each.user,
        each.state,
        renderDuration(each.cpu_seconds * 1_000),
        renderBytes(each.memory_bytes),
        renderDuration(each.age_seconds * 1_000),
        each.exec_id ?? '-',
        each.command,
      ]);
      const head = ['PID', 'USER', 'STATE', 'CPU', 'MEMORY', 'AGE', 'EXEC', 'COMMAND'];
      printList(processes, form, {
        idOf: ({ pid }) => String(pid),
        table: () => renderTable(head, rows, isWhole ? { widthMax: Infinity } : {}),
      });
      return 0;
    });
  },
});
