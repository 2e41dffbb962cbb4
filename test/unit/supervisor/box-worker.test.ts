// Tests the worker of one box against doubles of worker processes and the writer. Each successor has a new lease, its
// predecessor is dead before it starts, and no command of a worker that is gone stays running in the rows.
import { describe, expect, it } from 'vitest';
import { requestsTaken } from '../../../src/shared/contracts/worker.ts';
import type { WriterContract } from '../../../src/shared/contracts/writer.ts';
import { BoxRunError } from '../../../src/shared/errors.ts';
import { createTurns } from '../../../src/shared/waiting/in-turn.ts';
import type { Link } from '../../../src/shared/ipc/link.ts';
import type { BoxRow } from '../../../src/shared/store/rows.ts';
import { createBoxWorker, type BoxWorker, type BoxWorkerDeps } from '../../../src/supervisor/workers/box-worker.ts';
import { createImageGate } from '../../../src/supervisor/admission/image-gate.ts';
import type { FoundWorker } from '../../../src/supervisor/workers/worker-handle.ts';
import { controlledPromise, quietLog, settle } from '../../support/runs/unit.ts';
import { boxRow } from '../writer/setup.ts';
import { createHandleDouble, foundDouble, noProgress, type HandleDouble } from './setup.ts';

interface Bench {
  readonly worker: BoxWorker;
  readonly row: BoxRow;
  /** In the order in which the pool gives them. */
  readonly handles: HandleDouble[];
  /** The requests to the writer, in their order, with the generation of each. */
  readonly asked: string[];
  failWriter: BoxRunError | null;
  readonly lost: string[];
  /** Like `worker`, but with a worker that an earlier supervisor left. */
  anotherWorker(found: FoundWorker): BoxWorker;
  /** From now on sending the spills adds `spills` to `asked`. */
  noteSpills(): void;
}

async function createBench({
  adopted = false,
  handles = [1, 2, 3, 4].map((n) => createHandleDouble({ generation: 1 }, `wrk_${n}`)),
} = {}): Promise<Bench> {
  const row = boxRow({ generation: 1, image_source: { kind: 'registry', reference: 'x' } });
  const asked: string[] = [];
  const state = { failWriter: null as BoxRunError | null, spilled: false };
  let next = adopted ? 1 : 0;
  const writer: Pick<Link<WriterContract>, 'request'> = {
    async request(method: string, params: unknown) {
      const { generation } = params as { generation: number };
      asked.push(`${method} ${generation}`);
      if (state.failWriter !== null) throw state.failWriter;
      return { ended: [] } as never;
    },
  };
  const deps: BoxWorkerDeps = {
    writer,
    reader: {
      finishedAmong: (_, ids) => ids.filter((id) => id === 'exec_done'),
      resumable: () => [],
      newestFinishedExecIds: () => ['exec_done'],
    },
    pool: {
      take: async () => handles[next++] as HandleDouble,
      adopt: () => undefined,
      fill: () => undefined,
      holdBackSpares: (work) => work(),
      close: async () => undefined,
    },
    gate: createImageGate(),
    turns: createTurns(1),
    spills: {
      send: async () => {
        if (state.spilled) asked.push('spills');
      },
      sendLater: async () => undefined,
    },
    instanceId: 'inst_1',
    log: quietLog,
  };
  const worker = createBoxWorker(deps, row, adopted ? foundDouble(handles[0] as HandleDouble) : null);
  await worker.adopt();
  const lost: string[] = [];
  worker.onLost = () => lost.push('lost');
  worker.onEngineExit = (reason) => lost.push(reason);
  return {
    worker,
    row,
    handles,
    asked,
    lost,
    anotherWorker: (found) => createBoxWorker(deps, row, found),
    get failWriter() {
      return state.failWriter;
    },
    set failWriter(error) {
      state.failWriter = error;
    },
    noteSpills() {
      state.spilled = true;
    },
  };
}

const signal = new AbortController().signal;
const broken = () => Promise.reject(new BoxRunError('RUNTIME_ERROR', 'engine says no'));

describe('the first worker of a box', () => {
  it('gets the box under the lease of its row, and brings it up step by step', async () => {
    const { worker, handles, asked } = await createBench();
    let assignment: unknown;
    const [first] = handles;
    if (first !== undefined)
      first.answers['assign'] = async (params) => {
        assignment = params;
        return null;
      };
    expect(await worker.create(noProgress, signal)).toEqual({ engineId: 'engine-1' });
    expect(first?.requests).toEqual(['assign', 'prepareImage', 'create', 'start']);
    expect(assignment).toMatchObject({ boxId: boxRow().id, generation: 1, instanceId: 'inst_1', env: { A: 'ä' } });
    expect(asked).toEqual([]);
  });

  it('is killed if it refuses the assignment', async () => {
    const { worker, handles } = await createBench();
    const [first] = handles;
    if (first !== undefined)
      first.answers['assign'] = () => Promise.reject(new BoxRunError('RUNTIME_ERROR', 'no engine'));
    await expect(worker.create(noProgress, signal)).rejects.toMatchObject({ message: 'no engine' });
    expect(first?.events).toEqual(['killed']);
    expect(worker.present).toBeNull();
  });
});

describe('starting a box again', () => {
  it('commits a new lease before the worker gets the box', async () => {
    const { worker, handles, asked, row } = await createBench();
    let atAssign: string[] = [];
    const [first] = handles;
    if (first !== undefined)
      first.answers['assign'] = async () => {
        atAssign = [...asked];
        return null;
      };
    await worker.start(noProgress, signal);
    expect(atAssign).toEqual(['openLease 2']);
    expect(row.generation).toBe(2);
    expect(first?.requests).toEqual(['assign', 'prepareImage', 'start']);
  });

  it('first stops a worker that is still there', async () => {
    const { worker, handles } = await createBench({ adopted: true });
    await worker.start(noProgress, signal);
    expect(handles[0]?.events).toEqual(['stopped']);
    expect(handles[1]?.requests).toContain('start');
  });

  it('starts nothing if the writer does not commit the lease', async () => {
    const bench = await createBench();
    bench.failWriter = new BoxRunError('UNAVAILABLE', 'away');
    await expect(bench.worker.start(noProgress, signal)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(bench.handles[0]?.requests).toEqual([]);
    expect(bench.row.generation).toBe(1);
  });
});

describe('a start whose worker is lost', () => {
  it('goes on with another worker under a new lease', async () => {
    const { worker, handles, asked } = await createBench();
    const first = handles[0] as HandleDouble;
    first.answers['start'] = async () => {
      first.die();
      return new Promise(() => undefined);
    };
    await worker.start(noProgress, signal);
    expect(handles[1]?.requests).toEqual(['assign', 'prepareImage', 'start']);
    expect(asked).toEqual(['openLease 2', 'openLease 3']);
  });

  it('fails after a few lost workers', async () => {
    const { worker, handles } = await createBench();
    for (const handle of handles)
      handle.answers['start'] = async () => {
        handle.die();
        return new Promise(() => undefined);
      };
    await expect(worker.start(noProgress, signal)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(handles.map(({ requests }) => requests.includes('start'))).toEqual([true, true, true, false]);
  });
});

describe('taking over from a dead worker', () => {
  it('opens a lease, re-attaches, and then ends the commands of the dead worker', async () => {
    const { worker, handles, asked, row } = await createBench({ adopted: true });
    let atReattach: string[] = [];
    let params: unknown;
    const second = handles[1];
    if (second !== undefined)
      second.answers['reattach'] = async (given) => {
        atReattach = [...asked];
        params = given;
        return { running: true };
      };
    expect(await worker.takeOver('worker exited')).toBe(true);
    expect(handles[0]?.events).toEqual(['killed']);
    expect(params).toEqual({ finishedExecs: ['exec_done'] });
    expect(atReattach).toEqual(['openLease 2']);
    expect(asked).toEqual(['openLease 2', 'closeLease 1']);
    expect(row.generation).toBe(2);
  });

  it('asks the successor which commands it finds, and tells it which of them have ended', async () => {
    const handles = ['wrk_1', 'wrk_2'].map((id) =>
      createHandleDouble({ generation: 1, takes: [...requestsTaken] }, id),
    );
    const { worker } = await createBench({ adopted: true, handles });
    const successor = handles[1] as HandleDouble;
    let params: unknown;
    successor.answers['adopt'] = async () => ({ running: true, execIds: ['exec_lost', 'exec_done'] });
    successor.answers['endStrays'] = async (given) => {
      params = given;
      return null;
    };
    expect(await worker.takeOver('worker exited')).toBe(true);
    expect(successor.requests).toEqual(['assign', 'adopt', 'endStrays']);
    expect(params).toEqual({ finishedExecs: ['exec_done'], keptExecs: [] });
  });

  it('waits until the old worker is really dead', async () => {
    const { worker, handles, asked } = await createBench({ adopted: true });
    const first = handles[0] as HandleDouble;
    first.kill = async () => {
      first.events.push('killed');
    };
    const takenOver = worker.takeOver('worker exited');
    await settle(10);
    expect(asked).toEqual([]);
    first.die();
    await takenOver;
  });

  it('reports that the engine is gone too', async () => {
    const { worker, handles } = await createBench();
    const [first] = handles;
    if (first !== undefined) first.answers['reattach'] = async () => ({ running: false });
    expect(await worker.takeOver('worker exited')).toBe(false);
  });
});

describe('a worker that an earlier supervisor left', () => {
  it('has no successor before it is dead, if it neither answers nor dies', async () => {
    const bench = await createBench();
    const handle = createHandleDouble({ generation: 1 });
    let isDead = false;
    const unkillable = new BoxRunError('TIMEOUT', 'it did not die');
    const found = {
      ...foundDouble(handle),
      arrival: Promise.reject(unkillable),
      end: async () => {
        if (!isDead) throw unkillable;
      },
    };
    const worker = bench.anotherWorker(found);
    await expect(worker.adopt()).rejects.toMatchObject({ code: 'TIMEOUT' });
    await expect(worker.start(noProgress, signal)).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(bench.asked).toEqual([]);
    isDead = true;
    await worker.start(noProgress, signal);
    expect(bench.asked).toEqual(['openLease 2']);
  });

  it('is killed if it has another lease', async () => {
    const bench = await createBench();
    const handle = createHandleDouble({ generation: 7, running: true });
    expect(await bench.anotherWorker(foundDouble(handle)).adopt()).toBeNull();
    expect(handle.events).toEqual(['killed']);
  });
});

describe('a worker that has exited', () => {
  it('is reported once if it was not asked to exit', async () => {
    const { worker, handles, lost } = await createBench({ adopted: true });
    handles[0]?.die();
    await settle();
    expect(lost).toEqual(['lost']);
    expect(worker.present).toBeNull();
    await expect(worker.exec({ cmd: ['x'], env: null, workdir: null, timeoutMs: null })).rejects.toMatchObject({
      code: 'UNAVAILABLE',
    });
  });

  it('is not reported if it was asked to stop', async () => {
    const { worker, lost } = await createBench({ adopted: true });
    await worker.stop(0);
    await settle();
    expect(lost).toEqual([]);
  });

  it('reports the end of its engine only while it is the worker of the box', async () => {
    const { worker, handles, lost } = await createBench({ adopted: true });
    handles[0]?.onEngineExit?.('out of memory');
    await worker.stop(0);
    handles[0]?.onEngineExit?.('late');
    expect(lost[0]).toBe('out of memory');
  });
});

describe('stopping a box', () => {
  it('asks the present worker, and then stops it', async () => {
    const { worker, handles } = await createBench({ adopted: true });
    await worker.stop(0);
    expect(handles[0]?.requests).toEqual(['stop']);
    expect(handles[0]?.events).toEqual(['stopped']);
  });

  it('first takes the engine over if there is no worker', async () => {
    const { worker, handles, asked } = await createBench();
    await worker.stop(0);
    expect(handles[0]?.requests).toEqual(['assign', 'reattach', 'stop']);
    expect(asked).toEqual(['openLease 2', 'closeLease 1']);
  });

  it('after an error never fails, and leaves neither a worker nor a running command in the rows', async () => {
    const bench = await createBench({ adopted: true });
    const [first] = bench.handles;
    if (first !== undefined) first.answers['stop'] = broken;
    expect(await bench.worker.tryStop()).toBe(false);
    expect(first?.events).toEqual(['stopped']);
    expect(bench.worker.present).toBeNull();
    expect(bench.asked).toContain('closeLease 1');
    bench.failWriter = new BoxRunError('RUNTIME_ERROR', 'away');
    expect(await bench.worker.tryStop()).toBe(false);
  });

  it('after an error says that the engine has ended only when a worker has said so', async () => {
    const bench = await createBench({ adopted: true });
    expect(await bench.worker.tryStop()).toBe(true);
    expect(bench.handles[0]?.requests).toEqual(['stop']);
  });

  it('goes on with another worker if the first is lost, and ends the commands of the lost one', async () => {
    const { worker, handles, asked } = await createBench({ adopted: true });
    const first = handles[0] as HandleDouble;
    first.answers['stop'] = async () => {
      first.die();
      return new Promise(() => undefined);
    };
    await worker.stop(0);
    expect(handles[1]?.requests).toEqual(['assign', 'stop']);
    expect(asked).toEqual(['openLease 2', 'closeLease 1']);
  });

  it('stops a worker that does not answer in time, and asks the next one', async () => {
    const { worker, handles } = await createBench({ adopted: true });
    const first = handles[0] as HandleDouble;
    first.answers['stop'] = () => Promise.reject(new BoxRunError('TIMEOUT', 'no answer'));
    await worker.stop(0);
    expect(first.events).toEqual(['stopped']);
    expect(handles[1]?.requests).toEqual(['assign', 'stop']);
  });

  it('gives up after a few workers', async () => {
    const { worker, handles } = await createBench({ adopted: true });
    for (const handle of handles)
      handle.answers['stop'] = async () => {
        handle.die();
        return new Promise(() => undefined);
      };
    await expect(worker.stop(0)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(handles.map(({ requests }) => requests.includes('stop'))).toEqual([true, true, true, false]);
  });

  it('kills a worker whose process does not answer any more', { timeout: 20_000 }, async () => {
    const { worker, handles } = await createBench({ adopted: true });
    const first = handles[0] as HandleDouble;
    first.answers['stop'] = () => new Promise(() => undefined);
    first.answers['hello'] = () => new Promise(() => undefined);
    await worker.stop(0);
    expect(first.events).toEqual(['killed']);
    expect(handles[1]?.requests).toEqual(['assign', 'stop']);
  });

  it('starts no second worker while the first cannot be killed', async () => {
    const { worker, handles } = await createBench({ adopted: true });
    const first = handles[0] as HandleDouble;
    first.answers['stop'] = () => Promise.reject(new BoxRunError('TIMEOUT', 'no answer'));
    first.stop = () => Promise.reject(new BoxRunError('TIMEOUT', 'process 1 did not die'));
    await expect(worker.stop(0)).rejects.toMatchObject({ message: 'process 1 did not die' });
    expect(await worker.tryStop()).toBe(false);
    expect(handles[1]?.requests).toEqual([]);
  });
});

describe('spilled output of a worker', () => {
  it('is sent before the next lease is opened, and before a lease is closed', async () => {
    const bench = await createBench({ adopted: true });
    bench.noteSpills();
    await bench.worker.start(noProgress, signal);
    expect(bench.asked).toEqual(['spills', 'openLease 2']);
    bench.asked.length = 0;
    await bench.worker.release();
    expect(bench.asked).toEqual(['spills', 'closeLease 2']);
  });
});

describe('releasing a box', () => {
  it('stops its worker and ends its commands in the rows', async () => {
    const { worker, handles, asked, row } = await createBench({ adopted: true });
    await worker.release();
    expect(handles[0]?.events).toEqual(['stopped']);
    expect(asked).toEqual(['closeLease 1']);
    expect(row.generation).toBe(2);
  });
});

describe('removing a box', () => {
  it('removes the engine, stops the worker, and ends the commands that are left in the rows', async () => {
    const { worker, handles, asked } = await createBench({ adopted: true });
    await worker.remove(0);
    expect(handles[0]?.requests).toEqual(['remove']);
    expect(handles[0]?.events).toEqual(['stopped']);
    expect(asked).toEqual(['closeLease 1']);
  });

  it('takes a worker under a new lease if there is none', async () => {
    const { worker, handles, asked } = await createBench();
    await worker.remove(0);
    expect(asked[0]).toBe('openLease 2');
    expect(handles[0]?.requests).toEqual(['assign', 'remove']);
  });

  it('waits until a worker that has just died is certainly dead', async () => {
    const { worker, handles } = await createBench({ adopted: true });
    handles[0]?.die();
    await worker.remove(0);
    expect(handles[1]?.requests).toEqual(['assign', 'remove']);
  });
});

describe('a removal whose worker is lost', () => {
  it('is finished by another worker', async () => {
    const { worker, handles, asked } = await createBench({ adopted: true });
    const first = handles[0] as HandleDouble;
    first.answers['remove'] = async () => {
      first.die();
      return new Promise(() => undefined);
    };
    await worker.remove(0);
    expect(handles[1]?.requests).toEqual(['assign', 'remove']);
    expect(asked).toEqual(['openLease 2', 'closeLease 2']);
  });
});

describe('the first use of an image', () => {
  it('can be canceled while it waits for the pull of another box', async () => {
    const gate = createImageGate();
    const pull = controlledPromise<undefined>();
    const other = gate.pass('x', () => pull.promise);
    const stopping = new AbortController();
    const waiting = gate.pass('x', async () => 'never', stopping.signal);
    stopping.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELED' });
    pull.resolve(undefined);
    await other;
  });
});
