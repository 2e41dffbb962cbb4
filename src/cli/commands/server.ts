// The commands server status, stop, restart and logs: the server that runs in the background on this host.
// stop ends the processes of the server in order. Boxes run on, unless --stop-boxes is given.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { jsonOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { parseWhole } from '../parsing/options.ts';
import { printJson, printLines, renderTable } from '../render/render.ts';
import { loadConfig } from '../../shared/settings/config.ts';
import { statePaths } from '../../shared/settings/state-dir.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { sleep } from '../../shared/waiting/clock.ts';

const statusCommand = defineCommand({
  name: 'status',
  describe: 'show whether the server runs, and where; exit code 0 if it accepts a connection',
  options: { json: jsonOption },
  examples: [['server status', 'address, process and state directory']],
  async run({ json }) {
    const { stateDir } = loadConfig();
    const [{ describeAddress, isServerUp }, { serverProcesses }] = await Promise.all([
      import('../server/running-server.ts'),
      import('../heavy.ts'),
    ]);
    const [isUp, processes] = await Promise.all([isServerUp(), serverProcesses(stateDir)]);
    const keeper = processes.find(({ role }) => role === 'keeper')?.pid ?? null;
    const workers = processes.filter(({ role }) => role === 'worker').length;
    const address = describeAddress();
    const { logsDir } = statePaths(stateDir);
    if (json) {
      printJson({
        answers: isUp,
        address,
        keeper_pid: keeper,
        workers,
        processes: processes.map(({ pid, role }) => ({ pid, role })),
        state_dir: stateDir,
        logs_dir: logsDir,
      });
      return isUp ? 0 : 1;
    }
    const rows = [
      ['server', isUp ? 'answers' : 'does not answer'],
      ['address', address],
      ...['keeper', 'supervisor', 'gateway', 'writer', 'worker'].map((role) => [role, pidsOf(processes, role)]),
      ['state', stateDir],
      ['logs', logsDir],
    ];
    process.stdout.write(renderTable(['WHAT', 'VALUE'], rows));
    return isUp ? 0 : 1;
  },
});

/** The ids of the processes with this role; `-` if there is none. */
function pidsOf(processes: readonly { readonly pid: number; readonly role: string }[], role: string): string {
  const pids = processes.filter((each) => each.role === role).map(({ pid }) => pid);
  return pids.length === 0 ? '-' : pids.join(' ');
}

const stopBoxesOption = { type: 'flag', describe: 'stop the running boxes first; without it they run on' } as const;

const stopCommand = defineCommand({
  name: 'stop',
  describe: 'end the server in order; boxes run on',
  options: { 'stop-boxes': stopBoxesOption },
  examples: [['server stop', 'the next command starts a server again, which finds the boxes']],
  async run(values) {
    if (await stop(values['stop-boxes'])) printLines('Stopped: the server');
    else process.stderr.write('boxrun: no server runs\n');
    return 0;
  },
});

const restartCommand = defineCommand({
  name: 'restart',
  describe: 'end the server and start it again in the background; boxes run on',
  options: { 'stop-boxes': stopBoxesOption },
  examples: [['server restart', 'after an upgrade, for example']],
  async run(values) {
    const { withClient } = await import('../server/running-server.ts');
    await stop(values['stop-boxes']);
    return withClient(async () => {
      printLines('Started: the server');
      return 0;
    });
  },
});

/** Returns false if no server ran. */
async function stop(isWithBoxes: boolean): Promise<boolean> {
  const { stateDir } = loadConfig();
  const { createWaitNotice } = await import('../render/waiting.ts');
  if (isWithBoxes) await stopBoxes();
  const notice = createWaitNotice('stopping the server');
  try {
    return await (await import('../heavy.ts')).stopServer(stateDir);
  } finally {
    notice.end();
  }
}

/** @throws UNAVAILABLE if a box could not be stopped */
async function stopBoxes(): Promise<void> {
  const [{ isServerUp, withRunningServer }, { findTargets, forEachBox }] = await Promise.all([
    import('../server/running-server.ts'),
    import('../server/box-targets.ts'),
  ]);
  if (!(await isServerUp())) return;
  const exitCode = await withRunningServer(async (client) => {
    const boxes = (await client.listBoxes({ status: 'running' })).map(({ id, name }) => name ?? id);
    return forEachBox(
      client,
      await findTargets(client, { box: boxes, label: [], all: false }, () => true),
      (box) => client.stopBox(box),
      (box) => {
        printLines(`Stopped: ${box}`);
      },
    );
  });
  if (exitCode !== 0) throw new BoxRunError('UNAVAILABLE', 'a box could not be stopped, so the server runs on');
}

const parts = ['serve', 'keeper', 'writer', 'supervisor', 'gateway', 'workers'] as const;

const logsCommand = defineCommand({
  name: 'logs',
  describe: 'print the end of a log of the server',
  positionals: { part: { describe: 'part of the server', default: 'serve', choices: parts } },
  options: {
    follow: { type: 'flag', alias: 'f', describe: 'go on until Ctrl-C' },
    tail: { type: 'text', alias: 'n', default: '100', describe: 'number of lines from the end' },
  },
  examples: [
    ['server logs', 'what boxrun serve has said'],
    ['server logs -f supervisor', 'lines of JSON, as they come'],
  ],
  async run({ part, follow, tail }, { interrupts }) {
    const lines = parseWhole('tail', tail, 0);
    const file = join(statePaths(loadConfig().stateDir).logsDir, `${part}.log`);
    if (!existsSync(file)) {
      throw new BoxRunError('UNAVAILABLE', `there is no log ${file}`, {
        hint: part === 'serve' ? 'boxrun server logs keeper' : 'boxrun server status',
      });
    }
    let bytes = readFileSync(file);
    let shown = bytes.length;
    const all = bytes.toString('utf8').trimEnd().split('\n');
    if (lines > 0 && bytes.length > 0) printLines(...all.slice(-lines));
    if (!follow) return 0;
    const interrupt = interrupts.catch();
    while (!interrupt.signal.aborted) {
      await sleep(pollMs);
      bytes = readFileSync(file);
      // The server begins a log anew when it has become long.
      process.stdout.write(bytes.subarray(shown <= bytes.length ? shown : 0));
      shown = bytes.length;
    }
    return interrupt.exitCode();
  },
});

/** How often `server logs -f` looks for new lines, in milliseconds. */
const pollMs = 200;

export const serverCommand = defineCommand({
  name: 'server',
  describe: 'show, end or restart the server of this host',
  subcommands: [statusCommand, stopCommand, restartCommand, logsCommand],
  examples: [['server status', 'whether it runs, and where']],
  run: async () => {
    printLines('boxrun server status, stop, restart, logs; see --help');
    return 0;
  },
});
