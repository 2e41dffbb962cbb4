// create, ls, start, stop, rm, gc: the life of boxes from the command line.
import { boxStatuses } from '../../shared/api.ts';
import type { CreateBoxInput } from '../../sdk/index.ts';
import { refuseCommand, type CommandContext, type Parser } from '../context.ts';
import { parseVolume, parseWhole } from '../options.ts';
import { createProgressLine, renderBoxes } from '../render.ts';
import { withClient } from '../server.ts';

export function addBoxCommands(parser: Parser, context: CommandContext): void {
  addCreate(parser, context);
  addList(parser, context);
  addStartAndStop(parser, context);
  addRemove(parser, context);
  addGarbage(parser, context);
}

function addCreate(parser: Parser, context: CommandContext): void {
  parser.command(
    'create [image]',
    'create a box and start it; prints its id',
    (command) =>
      command
        .positional('image', { type: 'string', default: 'default', describe: 'image, alias or imported image' })
        .option('name', { alias: 'n', type: 'string', requiresArg: true, describe: 'a name to call it by' })
        .option('cpu', { type: 'string', requiresArg: true, default: '2', describe: 'CPUs' })
        .option('memory', { alias: 'm', type: 'string', requiresArg: true, default: '1024', describe: 'memory in MiB' })
        .option('disk', { alias: 'd', type: 'string', requiresArg: true, default: '8', describe: 'disk in GiB' })
        .option('network', { type: 'boolean', default: false, describe: 'let it reach the network' })
        .option('volume', {
          alias: 'v', type: 'string', array: true, nargs: 1, default: [] as string[], describe: 'mount /host:/guest[:ro|rw]; may be repeated',
        })
        .example('$0 create alpine -n web --cpu 1 -v ./site:/srv:ro', 'a box called web'),
    context.run(async (argv) => {
      refuseCommand(context);
      const input: CreateBoxInput = {
        image: argv.image,
        ...(argv.name === undefined ? {} : { name: argv.name }),
        cpu: parseWhole('cpu', argv.cpu, 1),
        memory_mb: parseWhole('memory', argv.memory, 1),
        disk_size_gb: parseWhole('disk', argv.disk, 1),
        network: argv.network,
        ...(argv.volume.length === 0 ? {} : { volumes: argv.volume.map(parseVolume) }),
      };
      return withClient(async (client) => {
        const progress = createProgressLine(process.stderr);
        try {
          const onProgress = ({ message }: { message: string }) => { progress.show(message); };
          const box = await client.createBox(input, process.stderr.isTTY ? { onProgress } : {});
          progress.clear();
          process.stdout.write(`${box.id}\nName: ${box.name ?? '-'}\nStatus: ${box.status}\n`);
        } finally {
          progress.clear();
        }
        return 0;
      });
    }),
  );
}

function addList(parser: Parser, context: CommandContext): void {
  parser.command(
    'ls',
    'list boxes, newest first',
    (command) =>
      command
        .option('status', { alias: 's', choices: [...boxStatuses, 'all'] as const, default: 'all' as const, describe: 'only of this status' })
        .example('$0 ls -s running', 'the running ones'),
    context.run(async ({ status }) => {
      refuseCommand(context);
      return withClient(async (client) => {
        const boxes = await client.listBoxes(status === 'all' ? undefined : status);
        process.stdout.write(renderBoxes(boxes, Date.now()));
        return 0;
      });
    }),
  );
}

function addStartAndStop(parser: Parser, context: CommandContext): void {
  const add = (verb: 'start' | 'stop', describe: string) =>
    parser.command(
      `${verb} <box>`,
      describe,
      (command) =>
        command
          .positional('box', { type: 'string', demandOption: true, describe: 'id or name' })
          .example(`$0 ${verb} web`, `${verb} the box called web`),
      context.run(async ({ box: key }) => {
        refuseCommand(context);
        return withClient(async (client) => {
          const box = verb === 'start' ? await client.startBox(key) : await client.stopBox(key);
          process.stdout.write(`${box.id}\nStatus: ${box.status}\n`);
          return 0;
        });
      }),
    );
  add('start', 'start a stopped box');
  add('stop', 'stop a running box; its disk stays');
}

function addRemove(parser: Parser, context: CommandContext): void {
  parser.command(
    'rm <box>',
    'remove a box with its disk',
    (command) =>
      command
        .positional('box', { type: 'string', demandOption: true, describe: 'id or name' })
        .option('force', { alias: 'f', type: 'boolean', default: false, describe: 'even when it is running' })
        .example('$0 rm -f web', 'stop and remove the box called web'),
    context.run(async ({ box, force }) => {
      refuseCommand(context);
      return withClient(async (client) => {
        await client.removeBox(box, { force });
        process.stdout.write(`Removed: ${box}\n`);
        return 0;
      });
    }),
  );
}

function addGarbage(parser: Parser, context: CommandContext): void {
  parser.command(
    'gc',
    'remove boxes that are stopped or failed for long',
    (command) =>
      command
        .option('older-than', { type: 'string', requiresArg: true, default: '3600', describe: 'for longer than so many seconds' })
        .example('$0 gc --older-than 86400', 'those of yesterday'),
    context.run(async ({ olderThan }) => {
      refuseCommand(context);
      const olderThanS = parseWhole('older-than', olderThan, 0);
      return withClient(async (client) => {
        const { removed } = await client.collectGarbage(olderThanS);
        process.stdout.write(`Removed: ${removed}\n`);
        return 0;
      });
    }),
  );
}
