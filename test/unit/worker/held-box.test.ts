// Tests the box that a worker holds, on a real writer and with a double of the engine. Calls to the engine happen one
// at a time, commands end before the end of the engine is reported, and no change is lost when the worker ends.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { loadConfig } from '../../../src/shared/settings/config.ts';
import { makeStateDirectories, statePaths } from '../../../src/shared/settings/state-dir.ts';
import type { Assignment, ExecOrder } from '../../../src/shared/contracts/worker.ts';
import { limits } from '../../../src/shared/limits.ts';
import { readSpills } from '../../../src/shared/contracts/spill.ts';
import { createHeldBox, type HeldBox } from '../../../src/worker/commands/held-box.ts';
import type { Driver, DriverContext } from '../../../src/worker/drivers/driver-contract.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { controlledPromise, quietLog, settle, temporaryDirectory } from '../../support/runs/unit.ts';
import { boxRow, serveWriter, type ServedWriter } from '../writer/setup.ts';
import { createDriverDouble, type DriverDouble } from './setup.ts';

interface Engine {
  readonly driver: Driver;
  readonly commands: DriverDouble;
  readonly calls: string[];
  /** The grace that stop and remove got, in milliseconds. */
  readonly graces: (number | undefined)[];
  readonly context: DriverContext;
  /** Replaces what a call does. */
  readonly on: Partial<Record<'create' | 'start' | 'stop' | 'remove' | 'close' | 'reattach', () => Promise<unknown>>>;
}

const engines: Engine[] = [];

vi.mock('../../../src/worker/drivers/registry.ts', () => ({
  createDriver: async (_name: string, _config: unknown, context: DriverContext) => createEngine(context).driver,
}));

function createEngine(context: DriverContext): Engine {
  const commands = createDriverDouble();
  const calls: string[] = [];
  const graces: (number | undefined)[] = [];
  const on: Engine['on'] = {};
  const call = async <T>(name: keyof Engine['on'], value: T): Promise<T> => {
    calls.push(name);
    const other = await on[name]?.();
    calls.push(`${name} done`);
    return (other as T | undefined) ?? value;
  };
  const driver: Driver = {
    shortExecMs: 5,
    busyboxPath: '/busybox',
    agentPath: '/agent',
    outputIsExact: true,
    agentUse: { way: 'none', reason: 'off' },
    prepareImage: () => Promise.resolve(),
    create: () => call('create', { engineId: 'engine-1' }),
    start: () => call('start', undefined),
    reattach: () => call<'running' | 'stopped'>('reattach', 'running'),
    exec: (request) => commands.exec(request),
    foundExecs: () => Promise.resolve(['exec_done', 'exec_lost']),
    async killStrayExecs(finished) {
      calls.push(`killStrayExecs except ${[...finished].join(',')}`);
    },
    stop: (graceMs) => {
      graces.push(graceMs);
      return call('stop', undefined);
    },
    remove: (graceMs) => {
      graces.push(graceMs);
      return call('remove', undefined);
    },
    metrics: () => Promise.resolve({ cpuSeconds: 0, memoryBytes: 0 }),
    stats: () => Promise.reject(new Error('not used')),
    close: () => call('close', undefined),
  };
  const engine = { driver, commands, calls, graces, context, on };
  engines.push(engine);
  return engine;
}

interface Bench {
  readonly heldBox: HeldBox;
  readonly engine: Engine;
  readonly writer: ServedWriter;
  readonly stateDir: string;
  readonly engineExits: string[];
  readonly unkillable: string[];
  /** True when the held box has learned that another worker has the lease. */
  readonly leaseIsOver: () => boolean;
}

const order = (change: Partial<ExecOrder> = {}): ExecOrder => ({
  cmd: ['x'],
  env: null,
  workdir: null,
  timeoutMs: null,
  ...change,
});
const noProgress = [() => undefined, new AbortController().signal] as const;

async function createBench({ started = true, generation = 1 } = {}): Promise<Bench> {
  const stateDir = temporaryDirectory();
  makeStateDirectories(stateDir);
  const config = loadConfig({ stateDir }, {});
  const writer = await serveWriter(config.dbPath, statePaths(stateDir).writerSocket);
  writer.statements.insertBox(boxRow({ generation: 1 }));
  const engineExits: string[] = [];
  const unkillable: string[] = [];
  let leaseIsOver = false;
  const assignment: Assignment = {
    boxId: boxRow().id,
    generation,
    instanceId: writer.instanceId,
    driver: 'container',
    image: { kind: 'registry', reference: 'x' },
    cpu: 1,
    memoryMb: 64,
    diskSizeGb: 1,
    network: false,
    workdir: '/',
    env: {},
    volumes: [],
  };
  const heldBox: { -readonly [K in keyof HeldBox]: HeldBox[K] } = await createHeldBox(
    {
      config,
      workerId: 'wrk_test',
      handOver: () => {
        throw new Error('no test transfers files');
      },
      log: quietLog,
      aheadDir: '/nowhere',
      onEngineExit: (reason) => engineExits.push(reason),
      onUnkillable: (reason) => unkillable.push(reason),
      onFenced: () => {
        leaseIsOver = true;
      },
    },
    assignment,
  );
  let released = false;
  const release = heldBox.release.bind(heldBox);
  heldBox.release = () => {
    released = true;
    return release();
  };
  onTestFinished(async () => {
    if (!released && !leaseIsOver) await release();
  });
  const engine = engines.at(-1) as Engine;
  if (started) await heldBox.start(...noProgress);
  return { heldBox, engine, writer, stateDir, engineExits, unkillable, leaseIsOver: () => leaseIsOver };
}

beforeEach(() => {
  engines.length = 0;
});

describe('a command in a held box', () => {
  it('has already finished in the answer if it is short', async () => {
    const { heldBox, engine } = await createBench();
    engine.commands.onStart = async (command) => {
      command.finish(0);
    };
    expect(await heldBox.exec(order())).toMatchObject({ status: 'succeeded', exit_code: 0 });
    await eventually('the command is no longer in the list', () => heldBox.execCount === 0);
  });

  it('is still running in the answer if it is long, and can be canceled', async () => {
    const { heldBox, writer } = await createBench();
    const exec = await heldBox.exec(order());
    expect(exec.status).toBe('running');
    expect(await heldBox.cancel(exec.id)).toMatchObject({ status: 'canceled' });
    expect(writer.value('SELECT status FROM execs')).toBe('canceled');
    await expect(heldBox.cancel(exec.id)).rejects.toMatchObject({ code: 'EXEC_NOT_FOUND' });
  });

  it('needs a running engine', async () => {
    const { heldBox, engine } = await createBench({ started: false });
    await expect(heldBox.exec(order())).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
    expect(engine.commands.commands).toHaveLength(0);
  });

  it('cannot be canceled if the box does not know it', async () => {
    const { heldBox } = await createBench();
    await expect(heldBox.cancel('exec_none')).rejects.toMatchObject({ code: 'EXEC_NOT_FOUND' });
  });
});

describe('the calls to the engine', () => {
  it('happen one at a time, even if the second request arrives before the first call has ended', async () => {
    const { heldBox, engine } = await createBench({ started: false });
    const creating = controlledPromise<undefined>();
    engine.on.create = () => creating.promise;
    const created = heldBox.create(...noProgress);
    const removed = heldBox.remove();
    await settle();
    expect(engine.calls).toEqual(['create']);
    creating.reject(new Error('canceled'));
    await expect(created).rejects.toThrow('canceled');
    await removed;
    expect(engine.calls).toEqual(['create', 'remove', 'remove done']);
  });
});

describe('a request to', () => {
  it.each(['stop', 'remove'] as const)(
    '%s a box lets the commands end by themselves, and is answered when their ends are committed',
    async (verb) => {
      const { heldBox, engine, writer } = await createBench();
      await Promise.all([heldBox.exec(order()), heldBox.exec(order())]);
      engine.on[verb] = async () => {
        await expect(heldBox.exec(order())).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
        for (const command of engine.commands.commands) {
          command.stdout.write('last words');
          command.finish(143);
        }
      };
      await heldBox[verb](1_234);
      expect(engine.commands.commands.map(({ kills }) => kills)).toEqual([0, 0]);
      expect(engine.graces).toEqual([1_234]);
      expect(writer.rows('SELECT DISTINCT status, exit_code, error_message FROM execs')).toEqual([
        {
          status: 'failed',
          exit_code: 143,
          error_message: verb === 'stop' ? 'the box was stopped' : 'the box was removed',
        },
      ]);
      expect(heldBox.running).toBe(false);
    },
  );

  it.each(['stop', 'remove'] as const)(
    '%s a box ends a command as failed if the engine ends without reporting its exit',
    async (verb) => {
      const { heldBox, engine, writer } = await createBench();
      const exec = await heldBox.exec(order());
      await heldBox[verb]();
      expect(engine.calls).toContain(`${verb} done`);
      expect(writer.rows('SELECT status FROM execs WHERE id = ?', exec.id)).toEqual([{ status: 'failed' }]);
      await eventually('the command is no longer in the list', () => heldBox.execCount === 0);
    },
  );
});

describe("a command that does not die before the kill's deadline", () => {
  it('is reported as unkillable with its id', { timeout: 20_000 }, async () => {
    const { heldBox, engine, unkillable } = await createBench();
    const exec = await heldBox.exec(order());
    const [command] = engine.commands.commands;
    if (command !== undefined) command.onKill = () => new Promise(() => undefined);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const canceled = heldBox.cancel(exec.id).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(limits.killTimeoutMs - 1);
    expect(unkillable).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    vi.useRealTimers();
    expect(await canceled).toMatchObject({ code: 'TIMEOUT' });
    expect(unkillable).toEqual([`command ${exec.id} could not be killed within ${limits.killTimeoutMs} ms`]);
    command?.finish(137);
    await eventually('the command is no longer in the list', () => heldBox.execCount === 0);
  });

  it('ends with the engine, and does not delay the stop of the box for ever', { timeout: 20_000 }, async () => {
    const { heldBox, engine, writer } = await createBench();
    const exec = await heldBox.exec(order());
    const [command] = engine.commands.commands;
    if (command !== undefined) command.onKill = () => new Promise(() => undefined);
    await heldBox.stop();
    expect(engine.calls).toContain('stop done');
    expect(writer.rows('SELECT status FROM execs WHERE id = ?', exec.id)).toEqual([{ status: 'failed' }]);
  });
});

describe('the end of an engine', () => {
  it('is reported to the supervisor only after the ends of its commands are committed', async () => {
    const { heldBox, engine, writer, engineExits } = await createBench();
    await Promise.all([heldBox.exec(order()), heldBox.exec(order())]);
    engine.context.onEngineExit('out of memory');
    expect(heldBox.running).toBe(false);
    await eventually('the supervisor is notified', () => engineExits.length === 1);
    expect(engineExits).toEqual(['out of memory']);
    expect(writer.rows('SELECT DISTINCT status, error_message FROM execs')).toEqual([
      { status: 'failed', error_message: 'the box ended: out of memory' },
    ]);
  });

  it('is not reported if the worker has asked the engine to stop', async () => {
    const { heldBox, engine, engineExits } = await createBench();
    engine.on.stop = async () => {
      engine.context.onEngineExit('as asked');
    };
    await heldBox.stop();
    await settle();
    expect(engineExits).toEqual([]);
  });
});

describe('adopting a box', () => {
  it('lets it take commands if its engine runs, and kills strays but no children of finished commands', async () => {
    const { heldBox, engine } = await createBench({ started: false });
    expect(await heldBox.adopt()).toEqual({ running: true, execIds: ['exec_done', 'exec_lost'], heldExecs: [] });
    await heldBox.endStrays(new Set(['exec_done']), new Set());
    expect(engine.calls).toEqual(['reattach', 'reattach done', 'killStrayExecs except exec_done']);
    expect(heldBox.running).toBe(true);
  });

  it('leaves it stopped if its engine has ended', async () => {
    const { heldBox, engine } = await createBench({ started: false });
    engine.on.reattach = () => Promise.resolve('stopped');
    expect(await heldBox.adopt()).toEqual({ running: false, execIds: [], heldExecs: [] });
    expect(heldBox.running).toBe(false);
    expect(engine.calls.some((call) => call.startsWith('killStrayExecs'))).toBe(false);
  });
});

describe('a lease that has ended', () => {
  it('is noticed with the next change, and makes the worker exit', async () => {
    const { heldBox, writer, leaseIsOver } = await createBench();
    writer.statements.openLease(boxRow().id, 2);
    heldBox.exec(order()).catch(() => undefined);
    await eventually('the worker must end', leaseIsOver);
    expect(writer.value('SELECT count(*) FROM execs')).toBe(0);
  });
});

describe('releasing a held box', () => {
  it('leaves the engine running, and sends all changes', async () => {
    const { heldBox, engine, writer, stateDir } = await createBench();
    await heldBox.exec(order());
    engine.commands.commands[0]?.stdout.write('last words');
    await eventually('they are committed', () => writer.value('SELECT data FROM events') !== undefined);
    await heldBox.release();
    expect(writer.value('SELECT data FROM events')).toEqual(Buffer.from('last words'));
    expect(engine.calls).toContain('close done');
    expect(engine.calls).not.toContain('stop');
    expect(readdirSync(statePaths(stateDir).spillDir)).toEqual([]);
  });

  it('writes unacknowledged changes into a spill, in order', async () => {
    const { heldBox, engine, writer, stateDir } = await createBench();
    const exec = await heldBox.exec(order());
    await writer.server.close();
    const [command] = engine.commands.commands;
    command?.stdout.write('unsent');
    await settle();
    command?.finish(0);
    await settle(20);
    await heldBox.release();
    const [found] = await readSpills(statePaths(stateDir).spillDir);
    expect(found?.path.endsWith(join('spill', 'wrk_test.spill'))).toBe(true);
    expect(found?.spill).toMatchObject({ boxId: boxRow().id, generation: 1 });
    expect(found?.spill?.changes.map((change) => (change.op === 'event' ? change.event.type : change.op))).toEqual([
      'log',
      'exit',
      'finish',
    ]);
    expect(found?.spill?.changes.every((change) => change.op !== 'insert' && change.execId === exec.id)).toBe(true);
  });
});
