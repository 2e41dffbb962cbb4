// The command info: shows where the server is, and how much of its CPUs and memory boxes reserve.
// It never starts a server, because that would change what it shows.
import { jsonOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { printJson, renderTable } from '../render/render.ts';

export const infoCommand = defineCommand({
  name: 'info',
  describe: 'show address, driver, CPUs and memory of the server; it starts none',
  options: { json: jsonOption },
  examples: [['info', 'address, driver, boxes, CPUs, memory']],
  async run({ json }, { version }) {
    const { describeAddress, withRunningServer } = await import('../server/running-server.ts');
    return withRunningServer(async (client) => {
      const [info, boxes] = await Promise.all([client.info(), client.listBoxes()]);
      const active = boxes.filter(({ status }) => status === 'running' || status === 'creating');
      const used = { cpu: 0, memory_mb: 0 };
      for (const { cpu, memory_mb } of active) {
        used.cpu += cpu;
        used.memory_mb += memory_mb;
      }
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
        ),
      );
      return 0;
    });
  },
});
