// The commands for the ports of a box: ports lists what listens, forward listens locally for one box, and url prints a
// link to a port. No box is changed.
import { toBoxRunError } from '../../shared/errors.ts';
import type { BoxRunClient, PortForward } from '../../sdk/index.ts';
import { formatOption, jsonOption, noTruncOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { listFormOf } from '../parsing/format.ts';
import { UsageError } from '../parsing/options.ts';
import type { Interrupt } from '../interrupt.ts';
import { printList } from '../render/list-output.ts';
import { printJson, printLines, renderTable } from '../render/render.ts';

const box = { describe: 'id or name', required: true, kind: 'runningBox' } as const;

export const portsCommand = defineCommand({
  name: 'ports',
  aliases: ['port'],
  describe: 'list the TCP ports at which processes of a box listen',
  positionals: { box },
  options: { 'no-trunc': noTruncOption, format: formatOption, json: jsonOption },
  examples: [['ports web', 'the ports of the box web, with the process that listens']],
  async run({ box: name, json, format, 'no-trunc': isWhole }, { withClient }) {
    const form = listFormOf({ json, format });
    const { withBox } = await import('../server/id-prefixes.ts');
    return withClient(async (client) => {
      const ports = await withBox(client, name, (found) => client.ports(found).list());
      const rows = ports.map(({ port, address, pid, url, command }) =>
        [port, address, pid, url, command].map((value) => String(value ?? '-')),
      );
      printList(ports, form, {
        idOf: ({ port }) => String(port),
        table: () =>
          renderTable(['PORT', 'ADDRESS', 'PID', 'URL', 'COMMAND'], rows, isWhole ? { widthMax: Infinity } : {}),
      });
      return 0;
    });
  },
});

export const forwardCommand = defineCommand({
  name: 'forward',
  describe: 'let local ports lead to ports of a box; Ctrl-C ends it',
  positionals: {
    box,
    port: { describe: 'LOCAL:PORT, or PORT for both; 0:PORT lets the system choose', required: true, many: true },
  },
  options: {
    address: {
      type: 'text',
      default: '127.0.0.1',
      describe: 'the local address; with 0.0.0.0, other hosts reach the box, too',
    },
    host: { type: 'text', describe: 'an address of the box; its loopback addresses when absent' },
    json: { type: 'flag', describe: 'print JSON, one port on each line' },
  },
  examples: [
    ['forward web 8080', 'http://127.0.0.1:8080 is port 8080 of the box web'],
    ['forward web 8080:80 5432', 'port 8080 leads to port 80, and port 5432 to port 5432'],
  ],
  async run({ box: name, port: words, address, host, json }, { interrupts, withClient }) {
    const wanted = words.map(parsePorts);
    const { withBox } = await import('../server/id-prefixes.ts');
    return withClient(async (client) => {
      const { id } = await withBox(client, name, (found) => client.getBox(found));
      // Fails if the box does not run. Nobody needs to listen yet.
      await client.ports(id).list();
      const interrupt = interrupts.catch();
      const forwards: PortForward[] = [];
      try {
        for (const ports of wanted) {
          const forward = await client.ports(id).forward(ports.remote, {
            ...{ localPort: ports.local, address, onError: createReport() },
            ...(host === undefined ? {} : { host }),
          });
          forwards.push(forward);
          if (json)
            printLines(JSON.stringify({ address: forward.address, port: forward.port, box_port: ports.remote }));
          else printLines(`${addressText(forward)} -> ${name}:${ports.remote}`);
        }
        return await untilInterrupted(client, id, interrupt);
      } finally {
        await Promise.all(forwards.map((each) => each.close()));
        interrupt.release();
      }
    });
  },
});

function parsePorts(word: string): { readonly local: number; readonly remote: number } {
  const [, first = '', second = first] = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(word) ?? [];
  const local = Number(first);
  const remote = Number(second);
  if (first !== '' && local <= 65_535 && remote >= 1 && remote <= 65_535) return { local, remote };
  throw new UsageError(`'${word}' is no port: write LOCAL:PORT, as in 8080:80, or one number for both`);
}

function addressText({ address, port }: PortForward): string {
  return `${address.includes(':') ? `[${address}]` : address}:${port}`;
}

/** Prints why a connection failed. The same reason several times in a row is printed once. */
function createReport(): (error: unknown) => void {
  let printed = '';
  return (error) => {
    const { code, message } = toBoxRunError(error);
    const text = `Error: [${code}] ${message}\n`;
    if (text !== printed) process.stderr.write(text);
    printed = text;
  };
}

/** Ends with an error when the box has been removed. A box that is stopped may be started again. */
async function untilInterrupted(client: BoxRunClient, boxId: string, interrupt: Interrupt): Promise<number> {
  const { signal } = interrupt;
  try {
    for await (const event of client.events({ signal })) {
      const isRemoved = event.type === 'box.removed' && event.box.id === boxId;
      if (isRemoved || event.type === 'ready' || event.type === 'reset') await client.getBox(boxId, { signal });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  return interrupt.exitCode();
}

export const urlCommand = defineCommand({
  name: 'url',
  describe: 'print a link to an HTTP port of a box; it lets one browser in',
  positionals: { box, port: { describe: 'the port', required: true } },
  options: { json: jsonOption },
  examples: [['url web 8080', 'open the link in a browser within one minute']],
  async run({ box: name, port: word, json }, { withClient }) {
    const { remote } = parsePorts(word);
    const { withBox } = await import('../server/id-prefixes.ts');
    return withClient(async (client) => {
      const link = await withBox(client, name, (found) => client.ports(found).link(remote));
      if (json) printJson(link);
      else printLines(link.url);
      return 0;
    });
  },
});
