// Tests the real agent on its way in of a micro-VM, without a VM: it dials a Unix socket in place of the vsock port.
// The worker's side is the real one. Directories with plain files take the place of control groups.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openAgentDoor, type AgentDoor } from '../../src/worker/agent/agent-door.ts';
import { createAgentLine, type AgentLine } from '../../src/worker/agent/agent-line.ts';
import { encodeToken, type AgentOrder } from '../../src/worker/agent/frames.ts';
import { createVmAgent } from '../../src/worker/drivers/boxlite/agent/vm-agent.ts';
import { findProgram } from '../../src/worker/drivers/programs.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processIdentity } from '../../src/shared/process/child-process.ts';

const token = 'f'.repeat(64);
let directory: string;
let path: string;
let lines: AgentLine[];
let generation = 0;
let door: AgentDoor | null;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'boxrun-dial-'));
  path = join(directory, 'ready.sock');
  lines = [];
  door = null;
  addGroup('one', 'max');
});
afterEach(async () => {
  const [line] = lines.slice(-1);
  line?.leave();
  await line?.closed;
  door?.close();
  rmSync(directory, { recursive: true });
});

function addGroup(name: string, depth: string): void {
  const group = join(directory, 'groups', name);
  mkdirSync(group, { recursive: true });
  writeFileSync(join(group, 'cgroup.procs'), '');
  writeFileSync(join(group, 'cgroup.max.depth'), `${depth}\n`);
}

/** Starts the agent as the engine does. Resolves when its first process has ended and the agent dials. */
async function startAgent(said = `${token}\n`, dialed = path): Promise<number | null> {
  const program = await findProgram('agent');
  if (program === null) throw new Error('dist/ has no agent: npm run build');
  const child = spawn(program, ['dial', '1', dialed, join(directory, 'groups'), '/bin/busybox'], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(said);
  const [code] = (await once(child, 'exit')) as [number | null];
  return code;
}

async function openDoor(): Promise<void> {
  door = await openAgentDoor(path, token, (socket) => lines.push(createAgentLine(socket, (generation += 1))));
}

async function nextLine(count = 1): Promise<AgentLine> {
  await eventually('the agent has dialed', async () => lines.length >= count, 10_000);
  const line = lines[count - 1] as AgentLine;
  await line.ready;
  return line;
}

const order = (script: string, group = 'one', name = 'exec_1'): AgentOrder => ({
  name,
  group,
  cmd: ['sh', '-c', script],
  env: ['PATH=/usr/bin:/bin'],
  workdir: '/',
  isOwnDirectory: false,
  user: { uid: 0, gid: 0, groups: [0] },
  tty: null,
  stdin: false,
});

describe('an agent that dials', () => {
  it('says its token and starts commands', async () => {
    await openDoor();
    expect(await startAgent()).toBe(0);
    const command = (await nextLine()).run(order('echo out; echo err >&2; exit 4'));
    if (command === null) throw new Error('the agent took no command');
    expect(await Promise.all([text(command.stdout), text(command.stderr), command.exit])).toEqual([
      'out\n',
      'err\n',
      { exitCode: 4 },
    ]);
  });

  it('is not started without a token, or without the groups of its commands', async () => {
    expect(await startAgent('')).toBe(1);
    expect(await startAgent('no end of line')).toBe(1);
    rmSync(join(directory, 'groups'), { recursive: true });
    expect(await startAgent()).toBe(1);
  });

  it('dials the next worker, which gets every byte behind what the first one has committed', async () => {
    await openDoor();
    await startAgent();
    const first = await nextLine();
    const before = first.run(order('head -c 3000000 /dev/zero | tr "\\0" x; sleep 0.2; echo end; exit 5'), true);
    if (before === null) throw new Error('the agent took no command');
    const [piece] = (await once(before.stdout, 'data')) as [Buffer];
    before.acknowledge(0, 1_000);
    // The worker dies: its connections and its socket end.
    door?.close();
    first.close('the worker died');
    await openDoor();
    const found = (await nextLine(2)).found.get('exec_1');
    if (found === undefined) throw new Error('the agent does not know its command');
    found.resume([piece.length, 0]);
    let bytes = '';
    found.stdout.on('data', (more: Buffer) => {
      bytes += more.toString();
      found.acknowledge(0, more.length);
    });
    await once(found.stdout, 'end');
    expect(bytes.length).toBe(3_000_004 - piece.length);
    expect(bytes.endsWith('xend\n')).toBe(true);
    expect(await found.exit).toEqual({ exitCode: 5 });
    found.forget();
  });

  it('dials again when it is not greeted within half a second', async () => {
    const silent: Socket[] = [];
    const server = createServer((socket) => silent.push(socket));
    server.listen(path);
    await once(server, 'listening');
    await startAgent();
    await eventually('it has dialed three times', async () => silent.length >= 3, 10_000);
    expect(silent[0]?.read()).toEqual(encodeToken(token));
    server.close();
    for (const socket of silent) socket.destroy();
    await openDoor();
    await nextLine();
  });

  it('leaves when the worker has started another agent meanwhile', async () => {
    await openDoor();
    await startAgent();
    const command = (await nextLine()).run(order('echo $PPID'));
    if (command === null) throw new Error('the agent took no command');
    const pid = Number(await text(command.stdout));
    await command.exit;
    door?.setToken('e'.repeat(64));
    lines[0]?.close('the worker closes it');
    await eventually('the agent has ended', async () => (await processIdentity(pid)) === null, 10_000);
    lines = [];
  });

  it('lets a command go on that has made the agent its tracer', async () => {
    const source = join(directory, 'traced.c');
    const program = join(directory, 'traced');
    writeFileSync(
      source,
      `#include <signal.h>
       #include <sys/ptrace.h>
       #include <unistd.h>
       int main(void) {
         signal(SIGUSR1, SIG_IGN);
         if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) return 1;
         raise(SIGUSR1);
         return execl("/bin/sh", "sh", "-c", "echo on; exit 7", (char *)0);
       }`,
    );
    execFileSync('cc', ['-o', program, source]);
    await openDoor();
    await startAgent();
    const command = (await nextLine()).run({ ...order(''), cmd: [program] });
    if (command === null) throw new Error('the agent took no command');
    expect(await text(command.stdout)).toBe('on\n');
    expect(await command.exit).toEqual({ exitCode: 7 });
  });

  it('does not start a command that was killed before it began', async () => {
    addGroup('killed', '0');
    await openDoor();
    await startAgent();
    const command = (await nextLine()).run(order('touch ran', 'killed'));
    await expect(command?.begun).rejects.toMatchObject({ stage: 'killed' });
  });
});

describe('the agent of a micro-VM whose connection breaks', () => {
  it.each([
    ['on both sides', true],
    ['and the worker has not noticed it yet', false],
  ])('dials again, and its command goes on (%s)', async (_, isNoticed) => {
    // This relay takes the place of the vsock port, and cuts the connections.
    const relayPath = join(directory, 'relay.sock');
    const pairs: [agent: Socket, worker: Socket][] = [];
    const relay = createServer((agent) => {
      const worker = connect(path);
      for (const end of [agent, worker]) end.on('error', () => undefined);
      agent.pipe(worker, { end: isNoticed });
      worker.pipe(agent);
      pairs.push([agent, worker]);
    }).listen(relayPath);
    const vm = createVmAgent({
      ...{ homeDir: directory, socketPath: path, generation: 1, log: pino({ level: 'silent' }) },
      launch: async (said) => void (await startAgent(`${said}\n`, relayPath)),
    });
    vm.begin();
    const line = await vm.ready();
    if (line === null) throw new Error('the agent did not start');
    lines.push(line);
    const command = line.run(order('i=0; while [ $i -lt 30 ]; do seq 20000; i=$((i+1)); done; exit 7'));
    if (command === null) throw new Error('the line takes no command');
    const output = text(command.stdout);
    for (let round = 0; round < 4; round += 1) {
      await Promise.race([once(pairs.at(-1)?.[1] as Socket, 'data'), command.exit]);
      const before = pairs.length;
      pairs.at(-1)?.[0].destroy();
      if (isNoticed) pairs.at(-1)?.[1].destroy();
      await eventually('the agent dials again', () => pairs.length > before);
      await line.connected();
    }
    expect(await command.exit).toEqual({ exitCode: 7 });
    const lineTexts = Array.from({ length: 20_000 }, (_each, index) => `${index + 1}\n`).join('');
    expect((await output) === lineTexts.repeat(30)).toBe(true);
    // A new command after it waits for the connection, and does not take the ordinary path.
    expect(await vm.ready()).toBe(line);
    expect(vm.use).toEqual({ way: 'vsock', reason: null });
    command.forget();
    line.leave();
    await once(pairs.at(-1)?.[0] as Socket, 'close');
    vm.close('the test is over');
    relay.close();
    for (const [, worker] of pairs) worker.destroy();
    lines = [];
  });
});
