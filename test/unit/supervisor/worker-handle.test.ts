// Workers that an earlier supervisor left: found by their state files, connected to, and certainly dead before they
// count as gone.
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

/** A worker as it is left behind: a process, its state file and, unless `mute`, its socket (served by this process). */
async function leaveWorker(
  config: Config,
  workerId: string,
  options: { mute?: boolean; exitedAtOnce?: boolean } = {},
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
    child.kill('SIGKILL'); // As a worker does: its process ends, and the connection with it.
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
    handlers: { leave } as unknown as Handlers<WorkerContract>, // Nothing else is asked of it here.
    onConnect(peer) {
      if (!options.exitedAtOnce) return;
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

describe('workers that are left', () => {
  it('are found with what they say of themselves', async () => {
    const config = createState();
    await leaveWorker(config, 'wrk_a');
    await leaveWorker(config, 'wrk_b');
    const found = await find(config);
    expect(found.map(({ workerId, peer }) => [workerId, peer.hello.boxId, peer.hello.generation]).sort()).toEqual([
      ['wrk_a', 'box_a', 3],
      ['wrk_b', 'box_a', 3],
    ]);
  });

  it('and are dead, or whose number another process has now, are cleared away, and nobody is killed', async () => {
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

  it('with a state file that cannot be read are cleared away, and keep nobody from starting', async () => {
    const config = createState();
    const { workersDir } = statePaths(config.stateDir);
    writeFileSync(join(workersDir, 'wrk_empty.json'), '');
    writeFileSync(join(workersDir, 'wrk_form.json'), '{"pid": "x"}');
    expect(await find(config)).toEqual([]);
    expect(readdirSync(workersDir)).toEqual([]);
  });

  it('and died before they had a state file are cleared away', async () => {
    const config = createState();
    const { workersDir } = statePaths(config.stateDir);
    for (const name of ['wrk_early.sock', 'wrk_early.stream.sock', 'wrk_half.json.part'])
      writeFileSync(join(workersDir, name), '');
    mkdirSync(join(workersDir, 'wrk_early.ahead', 'pipes'), { recursive: true });
    await leaveWorker(config, 'wrk_a');
    expect((await find(config)).map(({ workerId }) => workerId)).toEqual(['wrk_a']);
    expect(readdirSync(workersDir).sort()).toEqual(['wrk_a.json', 'wrk_a.sock']);
  });

  it('and do not answer are killed', async () => {
    const config = createState();
    const { pid } = await leaveWorker(config, 'wrk_mute', { mute: true });
    expect(await find(config)).toEqual([]);
    expect(await processIdentity(pid)).toBeNull();
    expect(readdirSync(statePaths(config.stateDir).workersDir)).toEqual([]);
  });

  it('and say something right behind the hello are heard by whoever listens later', async () => {
    const config = createState();
    await leaveWorker(config, 'wrk_a', { exitedAtOnce: true });
    const [worker] = await find(config);
    await settle(10);
    const heard: string[] = [];
    if (worker !== undefined) worker.onEngineExit = worker.onUnkillable = (reason) => heard.push(reason);
    await settle();
    expect(heard.sort()).toEqual(['engineExited right behind the hello', 'unkillable right behind the hello']);
    expect(worker?.peer.isOpen).toBe(true);
  });

  it('are awake as long as they say hello to one more connection', async () => {
    const config = createState();
    const { server } = await leaveWorker(config, 'wrk_a');
    const [worker] = await find(config);
    expect(await worker?.greet()).toMatchObject({ workerId: worker?.workerId });
    await server?.close();
    expect(await worker?.greet()).toBeNull();
  });
});

describe('a worker', () => {
  it('that closes its connection is gone only when its process is dead', async () => {
    const config = createState();
    const { pid, server } = await leaveWorker(config, 'wrk_a');
    const [worker] = await find(config);
    for (const peer of server?.peers ?? []) peer.close('lost');
    await worker?.gone;
    expect(await processIdentity(pid)).toBeNull();
    expect(existsSync(join(statePaths(config.stateDir).workersDir, 'wrk_a.json'))).toBe(false);
  });

  it('that is dismissed leaves by itself, with its files', async () => {
    const config = createState();
    const { pid } = await leaveWorker(config, 'wrk_a');
    const [worker] = await find(config);
    await worker?.stop();
    expect(await processIdentity(pid)).toBeNull();
    expect(readdirSync(statePaths(config.stateDir).workersDir)).toEqual([]);
  });

  it('that is killed is dead at once', async () => {
    const config = createState();
    const { pid } = await leaveWorker(config, 'wrk_a');
    const [worker] = await find(config);
    await worker?.kill();
    expect(await processIdentity(pid)).toBeNull();
  });
});
