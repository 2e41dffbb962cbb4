// A worker's box on a real writer, with an engine whose every call is in the test's hands: calls one at a time,
// commands ended before the engine, and nothing lost when the worker goes.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { loadConfig } from '../../../src/shared/settings/config.ts';
import { makeStateDirectories, statePaths } from '../../../src/shared/settings/state-dir.ts';
import type { Assignment, ExecOrder } from '../../../src/shared/contracts/worker.ts';
import { limits } from '../../../src/shared/limits.ts';
import { readSpills } from '../../../src/shared/store/spill.ts';
import { createBoxRunner, type BoxRunner } from '../../../src/worker/commands/held-box.ts';
import type { Driver, DriverContext } from '../../../src/worker/drivers/driver-contract.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { promiseInHand, quietLog, settle, temporaryDirectory } from '../../support/runs/unit.ts';
import { boxRow, serveWriter, type ServedWriter } from '../writer/setup.ts';
import { createDriverDouble, type DriverDouble } from './setup.ts';

interface Engine {
  readonly driver: Driver;
  readonly commands: DriverDouble;
  readonly calls: string[];
  /** What stop and remove were told, in milliseconds. */
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
    outputIsExact: true,
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
    close: () => call('close', undefined),
  };
  const engine = { driver, commands, calls, graces, context, on };
  engines.push(engine);
  return engine;
}

interface Bench {
  readonly runner: BoxRunner;
  readonly engine: Engine;
  readonly writer: ServedWriter;
  readonly stateDir: string;
  readonly engineExits: string[];
  readonly unkillable: string[];
  readonly fenced: () => boolean;
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
  let fenced = false;
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
  const runner: { -readonly [K in keyof BoxRunner]: BoxRunner[K] } = await createBoxRunner(
    {
      config,
      workerId: 'wrk_test',
      log: quietLog,
      aheadDir: '/nowhere',
      onEngineExit: (reason) => engineExits.push(reason),
      onUnkillable: (reason) => unkillable.push(reason),
      onFenced: () => {
        fenced = true;
      },
    },
    assignment,
  );
  let released = false;
  const release = runner.release.bind(runner);
  runner.release = () => {
    released = true;
    return release();
  };
  onTestFinished(async () => {
    if (!released && !fenced) await release();
  });
  const engine = engines.at(-1) as Engine;
  if (started) await runner.start(...noProgress);
  return { runner, engine, writer, stateDir, engineExits, unkillable, fenced: () => fenced };
}

beforeEach(() => {
  engines.length = 0;
});

describe('a command', () => {
  it('that is short comes back finished', async () => {
    const { runner, engine } = await createBench();
    engine.commands.onStart = async (command) => {
      command.finish(0);
    };
    expect(await runner.exec(order())).toMatchObject({ status: 'succeeded', exit_code: 0 });
    await eventually('it is forgotten', () => runner.execCount === 0);
  });

  it('that is long comes back running, and can be canceled', async () => {
    const { runner, writer } = await createBench();
    const exec = await runner.exec(order());
    expect(exec.status).toBe('running');
    expect(await runner.cancel(exec.id)).toMatchObject({ status: 'canceled' });
    expect(writer.value('SELECT status FROM execs')).toBe('canceled');
    await expect(runner.cancel(exec.id)).rejects.toMatchObject({ code: 'EXEC_NOT_FOUND' });
  });

  it('needs a running engine', async () => {
    const { runner, engine } = await createBench({ started: false });
    await expect(runner.exec(order())).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
    expect(engine.commands.commands).toHaveLength(0);
  });

  it('that ends by itself while it is canceled is told from a canceled one', async () => {
    const { runner } = await createBench();
    await expect(runner.cancel('exec_none')).rejects.toMatchObject({ code: 'EXEC_NOT_FOUND' });
  });
});

describe("the engine's calls", () => {
  it('come one at a time, even when the next is asked for before the last has ended', async () => {
    const { runner, engine } = await createBench({ started: false });
    const creating = promiseInHand<undefined>();
    engine.on.create = () => creating.promise;
    const created = runner.create(...noProgress);
    const removed = runner.remove();
    await settle();
    expect(engine.calls).toEqual(['create']);
    creating.reject(new Error('canceled'));
    await expect(created).rejects.toThrow('canceled');
    await removed;
    expect(engine.calls).toEqual(['create', 'remove', 'remove done']);
  });
});

describe('stop and remove', () => {
  it.each(['stop', 'remove'] as const)(
    '%s lets the commands end by themselves, and answers when their ends are committed',
    async (verb) => {
      const { runner, engine, writer } = await createBench();
      await Promise.all([runner.exec(order()), runner.exec(order())]);
      engine.on[verb] = async () => {
        await expect(runner.exec(order())).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
        for (const command of engine.commands.commands) {
          command.stdout.write('last words');
          command.finish(143);
        }
      };
      await runner[verb](1_234);
      expect(engine.commands.commands.map(({ kills }) => kills)).toEqual([0, 0]);
      expect(engine.graces).toEqual([1_234]);
      expect(writer.rows('SELECT DISTINCT status, exit_code, error_message FROM execs')).toEqual([
        {
          status: 'failed',
          exit_code: 143,
          error_message: verb === 'stop' ? 'the box was stopped' : 'the box was removed',
        },
      ]);
      expect(runner.running).toBe(false);
    },
  );

  it.each(['stop', 'remove'] as const)(
    '%s goes on when nobody tells the end of a command: it ends with the engine',
    async (verb) => {
      const { runner, engine, writer } = await createBench();
      const exec = await runner.exec(order());
      await runner[verb]();
      expect(engine.calls).toContain(`${verb} done`);
      expect(writer.rows('SELECT status FROM execs WHERE id = ?', exec.id)).toEqual([{ status: 'failed' }]);
      await eventually('it is forgotten', () => runner.execCount === 0);
    },
  );
});

describe('a command that resists its kill past the deadline', () => {
  it('makes the box one that cannot go on, and says which command it was', { timeout: 20_000 }, async () => {
    const { runner, engine, unkillable } = await createBench();
    const exec = await runner.exec(order());
    const [command] = engine.commands.commands;
    if (command !== undefined) command.onKill = () => new Promise(() => undefined);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const canceled = runner.cancel(exec.id).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(limits.killTimeoutMs - 1);
    expect(unkillable).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    vi.useRealTimers();
    expect(await canceled).toMatchObject({ code: 'TIMEOUT' });
    expect(unkillable).toEqual([`command ${exec.id} could not be killed within ${limits.killTimeoutMs} ms`]);
    command?.finish(137);
    await eventually('it is forgotten', () => runner.execCount === 0);
  });

  it("ends with the engine, and the box's end is not held up by it for ever", { timeout: 20_000 }, async () => {
    const { runner, engine, writer } = await createBench();
    const exec = await runner.exec(order());
    const [command] = engine.commands.commands;
    if (command !== undefined) command.onKill = () => new Promise(() => undefined);
    await runner.stop();
    expect(engine.calls).toContain('stop done');
    expect(writer.rows('SELECT status FROM execs WHERE id = ?', exec.id)).toEqual([{ status: 'failed' }]);
  });
});

describe('an engine that ends by itself', () => {
  it('ends its commands, committed, before the supervisor hears of it', async () => {
    const { runner, engine, writer, engineExits } = await createBench();
    await Promise.all([runner.exec(order()), runner.exec(order())]);
    engine.context.onEngineExit('out of memory');
    expect(runner.running).toBe(false);
    await eventually('the supervisor is told', () => engineExits.length === 1);
    expect(engineExits).toEqual(['out of memory']);
    expect(writer.rows('SELECT DISTINCT status, error_message FROM execs')).toEqual([
      { status: 'failed', error_message: 'the box ended: out of memory' },
    ]);
  });

  it('after it was told to stop is no news', async () => {
    const { runner, engine, engineExits } = await createBench();
    engine.on.stop = async () => {
      engine.context.onEngineExit('as asked');
    };
    await runner.stop();
    await settle();
    expect(engineExits).toEqual([]);
  });
});

describe('taking over', () => {
  it('a running engine makes it take commands, and ends strays but not what had finished', async () => {
    const { runner, engine } = await createBench({ started: false });
    expect(await runner.adopt()).toEqual({ running: true, execIds: ['exec_done', 'exec_lost'] });
    await runner.endStrays(new Set(['exec_done']));
    expect(engine.calls).toEqual(['reattach', 'reattach done', 'killStrayExecs except exec_done']);
    expect(runner.running).toBe(true);
  });

  it('a dead one leaves it stopped', async () => {
    const { runner, engine } = await createBench({ started: false });
    engine.on.reattach = () => Promise.resolve('stopped');
    expect(await runner.adopt()).toEqual({ running: false, execIds: [] });
    expect(runner.running).toBe(false);
    expect(engine.calls.some((call) => call.startsWith('killStrayExecs'))).toBe(false);
  });
});

describe('a lease that is over', () => {
  it('is noticed with the next change, and the worker must go', async () => {
    const { runner, writer, fenced } = await createBench();
    writer.statements.openLease(boxRow().id, 2);
    runner.exec(order()).catch(() => undefined);
    await eventually('it is told', fenced);
    expect(writer.value('SELECT count(*) FROM execs')).toBe(0);
  });
});

describe('letting go', () => {
  it('leaves the engine running, and nothing unsent', async () => {
    const { runner, engine, writer, stateDir } = await createBench();
    await runner.exec(order());
    engine.commands.commands[0]?.stdout.write('last words');
    await eventually('they are committed', () => writer.value('SELECT data FROM events') !== undefined);
    await runner.release();
    expect(writer.value('SELECT data FROM events')).toEqual(Buffer.from('last words'));
    expect(engine.calls).toContain('close done');
    expect(engine.calls).not.toContain('stop');
    expect(readdirSync(statePaths(stateDir).spillDir)).toEqual([]);
  });

  it('without a writer puts what is not acknowledged into a spill, in order', async () => {
    const { runner, engine, writer, stateDir } = await createBench();
    const exec = await runner.exec(order());
    await writer.server.close();
    const [command] = engine.commands.commands;
    command?.stdout.write('unsent');
    await settle();
    command?.finish(0);
    await settle(20);
    await runner.release();
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
