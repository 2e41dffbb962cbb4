// Tests the requests of gateways to the supervisor against doubles of worker and writer. Names and quota are reserved
// together before a row is written, and the boxes of runs are removed together with their gateway.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { CreateBoxBody } from '../../../src/shared/api.ts';
import { loadConfig } from '../../../src/shared/settings/config.ts';
import type { SupervisorContract } from '../../../src/shared/contracts/supervisor.ts';
import { BoxRunError } from '../../../src/shared/errors.ts';
import type { ClientPeer, RequestContext } from '../../../src/shared/ipc/server.ts';
import { createBox } from '../../../src/supervisor/boxes/box.ts';
import { createBoxRegistry } from '../../../src/supervisor/boxes/box-registry.ts';
import { createControl } from '../../../src/supervisor/control.ts';
import { createQuota } from '../../../src/supervisor/admission/quota.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { createImageGate } from '../../../src/supervisor/admission/image-gate.ts';
import { controlledPromise, quietLog, temporaryDirectory } from '../../support/runs/unit.ts';
import { execRow } from '../writer/setup.ts';
import { createRowsDouble, createWorkerDouble, type WorkerDouble } from './setup.ts';

type Caller = RequestContext<SupervisorContract>;

function createBench() {
  const config = loadConfig({ stateDir: temporaryDirectory(), driver: 'container' }, {});
  const registry = createBoxRegistry(10);
  const quota = createQuota({ cpu: 4, memoryMb: 4000, workers: null });
  const rows = createRowsDouble();
  const workers: WorkerDouble[] = [];
  const prepare: { next: (worker: WorkerDouble) => void } = { next: () => undefined };
  const execs = new Map<string, string>();
  const control = createControl({
    config,
    registry,
    quota,
    log: quietLog,
    writer: rows.writer,
    disk: { releaseReserve: async () => undefined },
    gate: createImageGate(),
    takePullWorker: async () => {
      throw new Error('these tests pull no image');
    },
    reader: {
      knownKey: () => null,
      exec: (_, id) => (execs.has(id) ? { ...execRow({ id }), status: execs.get(id) as 'running' } : null),
    },
    supervise(row) {
      const worker = createWorkerDouble();
      prepare.next(worker);
      workers.push(worker);
      const box = createBox(
        {
          writer: rows.writer,
          quota,
          log: quietLog,
          worker,
          onRemoved: () => {
            registry.delete(box);
          },
          claimIdBlock: () => null,
          onNameReleased: () => {
            if (row.name !== null) registry.releaseName(row.name, row.id);
          },
        },
        row,
      );
      return box;
    },
  });
  return { ...control, registry, quota, rows, workers, prepare, execs };
}

function caller(): Caller & { leave(): void } {
  const gone = new AbortController();
  const peer: ClientPeer<SupervisorContract> = {
    hello: { role: 'gateway' },
    closed: new Promise(() => undefined),
    notify: () => undefined,
    bufferedBytes: () => 0,
    close: () => undefined,
  };
  return {
    peer,
    signal: gone.signal,
    progress: () => undefined,
    requestId: null,
    leave: () => {
      gone.abort();
    },
  };
}

const body = (change: Partial<CreateBoxBody> = {}): CreateBoxBody => ({
  image: 'alpine',
  cpu: 1,
  memory_mb: 100,
  disk_size_gb: 1,
  network: false,
  workdir: '/root',
  ...change,
});

describe('creating a box', () => {
  it('answers when it is running, with the full name of its image, and its row is committed', async () => {
    const { handlers, rows, registry } = createBench();
    const box = await handlers.createBox({ body: body({ name: 'web' }), ephemeral: false }, caller());
    expect(box).toMatchObject({ name: 'web', status: 'running', cpu: 1 });
    expect(box.id).toMatch(/^box_/);
    expect(box.image).toBe('alpine:3.20');
    expect(rows.rows.get(box.id)).toMatchObject({
      state: 'ready',
      ephemeral: false,
      generation: 1,
      driver: 'container',
    });
    expect(registry.find('web').id).toBe(box.id);
  });

  it('is refused before anything is written if the name is taken', async () => {
    const { handlers, rows } = createBench();
    await handlers.createBox({ body: body({ name: 'web' }), ephemeral: false }, caller());
    const before = rows.requests.length;
    await expect(handlers.createBox({ body: body({ name: 'web' }), ephemeral: false }, caller())).rejects.toMatchObject(
      { code: 'NAME_ALREADY_EXISTS' },
    );
    expect(rows.requests).toHaveLength(before);
  });

  it('succeeds once for many requests with the same name, or for the same quota', async () => {
    const { handlers } = createBench();
    const named = await Promise.allSettled(
      [1, 2, 3].map(async () => handlers.createBox({ body: body({ name: 'web' }), ephemeral: false }, caller())),
    );
    expect(named.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    const large = await Promise.allSettled(
      [1, 2, 3].map(async () => handlers.createBox({ body: body({ cpu: 3 }), ephemeral: false }, caller())),
    );
    expect(large.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it.each([
    ['without enough quota', { cpu: 5 }, 'RESOURCE_EXCEEDED'],
    [
      'with a volume that does not exist',
      { volumes: [{ host_path: join('/', 'no', 'such', 'path'), guest_path: '/x', readonly: true }] },
      'RUNTIME_ERROR',
    ],
  ] as const)('%s fails, keeps neither name nor quota, and writes no row', async (_, change, code) => {
    const { handlers, rows, quota } = createBench();
    const failing = body({ name: 'web', ...(change as Partial<CreateBoxBody>) });
    await expect(handlers.createBox({ body: failing, ephemeral: false }, caller())).rejects.toMatchObject({ code });
    expect(rows.requests).toEqual([]);
    quota.reserve('probe', 4, 4000);
    quota.release('probe');
    await handlers.createBox({ body: body({ name: 'web' }), ephemeral: false }, caller());
  });

  it('keeps neither name, quota nor row if the writer or the engine refuses it', async () => {
    const { handlers, rows, quota, prepare } = createBench();
    rows.failures.set('insertBox', new BoxRunError('UNAVAILABLE', 'away'));
    await expect(handlers.createBox({ body: body({ name: 'web' }), ephemeral: false }, caller())).rejects.toMatchObject(
      { code: 'UNAVAILABLE' },
    );
    rows.failures.clear();
    prepare.next = (worker) => {
      worker.on.create = () => Promise.reject(new BoxRunError('IMAGE_PULL_FAILED', 'no'));
    };
    await expect(handlers.createBox({ body: body({ name: 'web' }), ephemeral: false }, caller())).rejects.toMatchObject(
      { code: 'IMAGE_PULL_FAILED' },
    );
    prepare.next = () => undefined;
    expect(rows.rows.size).toBe(0);
    quota.reserve('probe', 4, 4000);
    quota.release('probe');
    await handlers.createBox({ body: body({ name: 'web' }), ephemeral: false }, caller());
  });
});

describe('an insert that the writer does not answer', () => {
  it('is undone, and its name stays taken until this is certain', async () => {
    const { handlers, rows, quota } = createBench();
    const create = () => handlers.createBox({ body: body({ name: 'web' }), ephemeral: false }, caller());
    for (const method of ['insertBox', 'removeBox']) rows.failures.set(method, new BoxRunError('TIMEOUT', 'no answer'));
    await expect(create()).rejects.toMatchObject({ code: 'TIMEOUT' });
    quota.reserve('probe', 4, 4000);
    quota.release('probe');
    await expect(create()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    rows.failures.clear();
    await eventually('the name is free', async () => {
      try {
        await create();
        return true;
      } catch {
        return false;
      }
    });
    expect(rows.requests.filter((request) => request === 'removeBox').length).toBeGreaterThan(1);
  });
});

describe('the box of a run', () => {
  it('is removed when its gateway is gone, even during its creation', async () => {
    const { handlers, removeRunsOf, rows, workers, prepare } = createBench();
    const gateway = caller();
    await handlers.createBox({ body: body(), ephemeral: true }, gateway);
    prepare.next = (worker) => {
      worker.on.create = (signal) =>
        new Promise((_, reject) => {
          signal?.addEventListener('abort', () => {
            reject(new BoxRunError('CANCELED', 'canceled'));
          });
        });
    };
    const making = Promise.allSettled([handlers.createBox({ body: body(), ephemeral: true }, gateway)]);
    await eventually('the second is being made', () => workers[1]?.calls.includes('create') === true);
    expect(rows.rows.size).toBe(2);
    removeRunsOf(gateway.peer);
    await making;
    await expect.poll(() => rows.rows.size).toBe(0);
  });

  it('is removed if its gateway disconnected before the row was written', async () => {
    const { handlers, removeRunsOf, rows } = createBench();
    const gateway = caller();
    const making = Promise.allSettled([handlers.createBox({ body: body(), ephemeral: true }, gateway)]);
    gateway.leave();
    removeRunsOf(gateway.peer);
    await making;
    await expect.poll(() => rows.rows.size).toBe(0);
  });

  it('stays if it belongs to another gateway, and a box without a run stays too', async () => {
    const { handlers, removeRunsOf, rows } = createBench();
    const [one, other] = [caller(), caller()];
    await handlers.createBox({ body: body(), ephemeral: true }, one);
    const kept = await handlers.createBox({ body: body(), ephemeral: true }, other);
    const plain = await handlers.createBox({ body: body(), ephemeral: false }, one);
    removeRunsOf(one.peer);
    await expect.poll(() => [...rows.rows.keys()].sort()).toEqual([kept.id, plain.id].sort());
  });
});

describe('a request for a box', () => {
  it('gets BOX_NOT_FOUND if the box does not exist', async () => {
    const { handlers } = createBench();
    const from = caller();
    for (const ask of [
      async () => handlers.startBox({ box: 'none' }, from),
      async () => handlers.stopBox({ box: 'none' }, from),
      async () => handlers.removeBox({ box: 'none', force: true }, from),
      async () => handlers.startExec({ box: 'none', body: { cmd: ['x'] } }, from),
      async () => handlers.cancelExec({ box: 'none', execId: 'exec_1' }, from),
    ])
      await expect(ask()).rejects.toMatchObject({ code: 'BOX_NOT_FOUND' });
  });

  it('gets different codes for the cancel of an unknown command and of one that has ended', async () => {
    const { handlers, execs, workers } = createBench();
    const from = caller();
    await handlers.createBox({ body: body({ name: 'web' }), ephemeral: false }, from);
    const cancel = async (execId: string) => handlers.cancelExec({ box: 'web', execId }, from);
    await expect(cancel('exec_none')).rejects.toMatchObject({ code: 'EXEC_NOT_FOUND' });
    execs.set('exec_done', 'succeeded');
    await expect(cancel('exec_done')).rejects.toMatchObject({ code: 'EXEC_ALREADY_FINISHED' });
    execs.set('exec_run', 'running');
    expect(await cancel('exec_run')).toMatchObject({ id: 'exec_run' });
    const [worker] = workers;
    if (worker !== undefined) worker.cancelExec = () => Promise.reject(new BoxRunError('EXEC_NOT_FOUND', 'it is over'));
    await expect(cancel('exec_run')).rejects.toMatchObject({ code: 'EXEC_ALREADY_FINISHED' });
  });
});

describe('garbage collection', () => {
  it('removes boxes that have been stopped or failed for long enough, and no running box', async () => {
    const { handlers, rows } = createBench();
    const from = caller();
    const boxes = [];
    for (let index = 0; index < 3; index++)
      boxes.push(await handlers.createBox({ body: body(), ephemeral: false }, from));
    const [stopped, , running] = boxes;
    for (const box of boxes.slice(0, 2)) await handlers.stopBox({ box: box.id }, from);
    expect(await handlers.collectGarbage({ olderThanS: 3600 }, from)).toEqual({ removed: 0 });
    await handlers.startBox({ box: boxes[1]?.id ?? '' }, from);
    expect(await handlers.collectGarbage({ olderThanS: 0 }, from)).toEqual({ removed: 1 });
    expect(rows.rows.has(stopped?.id ?? '')).toBe(false);
    expect(rows.rows.has(running?.id ?? '')).toBe(true);
    expect(rows.rows.size).toBe(2);
  });

  it('skips a box that a client starts meanwhile', async () => {
    const { handlers, workers } = createBench();
    const from = caller();
    const boxes = [];
    for (let index = 0; index < 2; index++) {
      const box = await handlers.createBox({ body: body(), ephemeral: false }, from);
      await handlers.stopBox({ box: box.id }, from);
      boxes.push(box);
    }
    const removing = controlledPromise<undefined>();
    const [first] = workers;
    if (first !== undefined) first.on.remove = () => removing.promise;
    const collected = handlers.collectGarbage({ olderThanS: 0 }, from);
    await handlers.startBox({ box: boxes[1]?.id ?? '' }, from);
    removing.resolve(undefined);
    expect(await collected).toEqual({ removed: 1 });
  });
});
