// Tests the workers that an earlier supervisor left, with real processes and sockets. The supervisor finds them by
// their state files, connects to them, and counts one as gone only when its process is certainly dead.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { processIdentity } from '../../../src/shared/process/child-process.ts';
import { loadConfig, type Config } from '../../../src/shared/settings/config.ts';
import { makeStateDirectories, statePaths } from '../../../src/shared/settings/state-dir.ts';
import { workerContract, type WorkerContract, type WorkerStateFile } from '../../../src/shared/contracts/worker.ts';
import { serveContract, type Handlers, type IpcServer } from '../../../src/shared/ipc/server.ts';
import { findWorkers, type WorkerHandle } from '../../../src/supervisor/workers/worker-handle.ts';
import { quietLog, settle, temporaryDirectory } from '../../support/runs/unit.ts';

interface Left {
  readonly pid: number;
  readonly stateFile: WorkerStateFile;
  readonly server: IpcServer<WorkerContract> | null;
}

function createState(): Config {
  const stateDir = temporaryDirectory();
  makeStateDirectories(stateDir);
  return loadConfig({ stateDir }, {});
}

/** Leaves a worker behind: a process, its state file and, unless `mute`, its socket, which this process serves. */
async function leaveWorker(
  config: Config,
  workerId: string,
  options: { mute?: boolean; noticesAtOnce?: boolean } = {},
): Promise<Left> {
  const { workersDir } = statePaths(config.stateDir);
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  const pid = child.pid as number;
  const identity = await processIdentity(pid);
  const stateFile = { workerId, pid, startTicks: identity?.startTicks ?? 0, boxId: 'box_a', generation: 3 };
  writeFileSync(join(workersDir, `${workerId}.json`), JSON.stringify(stateFile));
  if (options.mute) return { pid, stateFile, server: null };
  const leave = () => {
    child.kill('SIGKILL'); // A worker does the same: its process ends, and the connection with it.
    for (const peer of server.peers)
      setImmediate(() => {
        peer.close('left');
      });
    return null;
  };
  const server = await serveContract<WorkerContract>({
    path: join(workersDir, `${workerId}.sock`),
    contract: workerContract,
    hello: () => ({ workerId, pid, boxId: 'box_a', generation: 3, running: true }),
    log: quietLog,
    handlers: { leave } as unknown as Handlers<WorkerContract>, // The tests send it no other request.
    onConnect(peer) {
      if (!options.noticesAtOnce) return;
      for (const notice of ['engineExited', 'unkillable'] as const)
        peer.notify(notice, { reason: `${notice} right behind the hello` });
    },
  });
  onTestFinished(() => server.close());
  return { pid, stateFile, server };
}

async function find(config: Config): Promise<WorkerHandle[]> {
  const all = await findWorkers({ config, log: quietLog, liveWorkers: new Set(), starting: new Set() });
  const found = (await Promise.all(all.map(({ arrival }) => arrival))).filter((worker) => worker !== null);
  onTestFinished(async () => {
    await Promise.all(found.map((worker) => worker.kill()));
  });
  return found;
}

describe('workers of an earlier supervisor', () => {
  it('are found with their box and generation', async () => {
    const config = createState();
    await leaveWorker(config, 'wrk_a');
    await leaveWorker(config, 'wrk_b');
    const found = await find(config);
    expect(found.map(({ workerId, peer }) => [workerId, peer.hello.boxId, peer.hello.generation]).sort()).toEqual([
      ['wrk_a', 'box_a', 3],
      ['wrk_b', 'box_a', 3],
    ]);
  });

  it('have their files removed if they are dead, and a process with the same number is not killed', async () => {
    const config = createState();
    const { workersDir } = statePaths(config.stateDir);
    const other = await leaveWorker(config, 'wrk_other');
    writeFileSync(
      join(workersDir, 'wrk_other.json'),
      JSON.stringify({ ...other.stateFile, startTicks: other.stateFile.startTicks - 1 }),
    );
    writeFileSync(
      join(workersDir, 'wrk_dead.json'),
      JSON.stringify({ ...other.stateFile, workerId: 'wrk_dead', pid: 2 ** 22 + 1 }),
    );
    writeFileSync(join(workersDir, 'wrk_dead.sock'), '');
    expect(await find(config)).toEqual([]);
    expect(readdirSync(workersDir)).toEqual([]);
    expect(await processIdentity(other.pid)).not.toBeNull();
  });

  it('have their files removed if the state file cannot be read, and do not prevent the start', async () => {
    const config = createState();
    const { workersDir } = statePaths(config.stateDir);
    writeFileSync(join(workersDir, 'wrk_empty.json'), '');
    writeFileSync(join(workersDir, 'wrk_form.json'), '{"pid": "x"}');
    expect(await find(config)).toEqual([]);
    expect(readdirSync(workersDir)).toEqual([]);
  });

  it('have their files removed if they died before they wrote a state file', async () => {
    const config = createState();
    const { workersDir } = statePaths(config.stateDir);
    for (const name of ['wrk_early.sock', 'wrk_early.stream.sock', 'wrk_half.json.part'])
      writeFileSync(join(workersDir, name), '');
    mkdirSync(join(workersDir, 'wrk_early.ahead', 'pipes'), { recursive: true });
    await leaveWorker(config, 'wrk_a');
    expect((await find(config)).map(({ workerId }) => workerId)).toEqual(['wrk_a']);
    expect(readdirSync(workersDir).sort()).toEqual(['wrk_a.json', 'wrk_a.sock']);
  });

  it('are killed if they do not answer', async () => {
    const config = createState();
    const { pid } = await leaveWorker(config, 'wrk_mute', { mute: true });
    expect(await find(config)).toEqual([]);
    expect(await processIdentity(pid)).toBeNull();
    expect(readdirSync(statePaths(config.stateDir).workersDir)).toEqual([]);
  });

  it('lose no notice that comes right after the hello, before there is a listener', async () => {
    const config = createState();
    await leaveWorker(config, 'wrk_a', { noticesAtOnce: true });
    const [worker] = await find(config);
    await settle(10);
    const heard: string[] = [];
    if (worker !== undefined) worker.onEngineExit = worker.onUnkillable = (reason) => heard.push(reason);
    await settle();
    expect(heard.sort()).toEqual(['engineExited right behind the hello', 'unkillable right behind the hello']);
    expect(worker?.peer.isOpen).toBe(true);
  });

  it('greet() gives their hello as long as they answer on another connection, and null afterwards', async () => {
    const config = createState();
    const { server } = await leaveWorker(config, 'wrk_a');
    const [worker] = await find(config);
    expect(await worker?.greet()).toMatchObject({ workerId: worker?.workerId });
    await server?.close();
    expect(await worker?.greet()).toBeNull();
  });
});

describe('a worker', () => {
  it('is gone only when its process is dead, even if it has closed its connection', async () => {
    const config = createState();
    const { pid, server } = await leaveWorker(config, 'wrk_a');
    const [worker] = await find(config);
    for (const peer of server?.peers ?? []) peer.close('lost');
    await worker?.gone;
    expect(await processIdentity(pid)).toBeNull();
    expect(existsSync(join(statePaths(config.stateDir).workersDir, 'wrk_a.json'))).toBe(false);
  });

  it('exits by itself and removes its files when it is stopped', async () => {
    const config = createState();
    const { pid } = await leaveWorker(config, 'wrk_a');
    const [worker] = await find(config);
    await worker?.stop();
    expect(await processIdentity(pid)).toBeNull();
    expect(readdirSync(statePaths(config.stateDir).workersDir)).toEqual([]);
  });

  it('is dead as soon as the kill returns', async () => {
    const config = createState();
    const { pid } = await leaveWorker(config, 'wrk_a');
    const [worker] = await find(config);
    await worker?.kill();
    expect(await processIdentity(pid)).toBeNull();
  });
});
