// Measures the life of a box: create with and without a spare worker, stop, start and remove. The reference is the OCI
// runtime with a bundle that exists already. Also measures a hundred creates at once.
import { readFileSync } from 'node:fs';
import type { Box } from '../../src/shared/api.ts';
import { processesOf } from '../../test/support/host/processes.ts';
import { expectSuccess, runExec } from '../support/execs.ts';
import { callJson, openConnections } from '../support/http.ts';
import {
  compare,
  median,
  ratioAtLeast,
  single,
  type Context,
  type Measure,
  type Round,
  type Suite,
} from '../support/measure.ts';
import { createRawBoxes, type RawBoxes } from '../support/raw-box.ts';
import { createRawExec } from '../support/raw-exec.ts';
import { smallBox, sparesAreReady, withServer, type BenchServer } from '../support/server.ts';

export const create: Suite = {
  name: 'create',
  async run(context) {
    const warm = await withServer(context, { args: ['--workers', '2'] }, (server) => measureLife(context, server));
    const cold = await withServer(context, { args: ['--workers', '0'] }, (server) => measureCold(context, server));
    return [...warm, ...cold];
  },
};

type Step = 'create' | 'stop' | 'start' | 'remove';

/** The times of each step. One life of a box measures all steps. */
interface Life {
  readonly ours: Record<Step, number[]>;
  readonly reference: Record<Step, number[]>;
}

const emptySteps = (): Record<Step, number[]> => ({ create: [], stop: [], start: [], remove: [] });

async function measureLife(context: Context, server: BenchServer): Promise<Measure[]> {
  const life: Life = { ours: emptySteps(), reference: emptySteps() };
  const raw = await createRawBoxes(server);
  const lives = context.isShort ? 8 : 30;
  await server.createBox().then(({ id }) => server.admin.request('DELETE', `/v1/boxes/${id}?force=true`));
  for (let index = 0; index < lives; index++) {
    await sparesAreReady(server, 2);
    await liveOurs(server, life.ours);
    await liveRaw(raw, life.reference);
  }
  const measures = (['create', 'stop', 'start', 'remove'] as const).map((step) =>
    comparedStep(step === 'create' ? 'create/warm' : `create/${step}`, life.ours[step], life.reference[step]),
  );
  return [...measures, onTopOf('create/warm-on-top', life.ours.create, life.reference.create, 15)];
}

async function liveOurs({ admin }: BenchServer, times: Record<Step, number[]>): Promise<void> {
  const { id } = await time(times.create, () => callJson<Box>(admin, 'POST', '/v1/boxes', smallBox));
  await time(times.stop, () => callJson(admin, 'POST', `/v1/boxes/${id}:stop`));
  await time(times.start, () => callJson(admin, 'POST', `/v1/boxes/${id}:start`));
  await time(times.remove, () => callJson(admin, 'DELETE', `/v1/boxes/${id}?force=true`));
}

async function liveRaw(raw: RawBoxes, times: Record<Step, number[]>): Promise<void> {
  const box = await raw.prepare();
  await time(times.create, () => box.start());
  await time(times.stop, () => box.stop());
  await time(times.start, () => box.start());
  await time(times.remove, () => box.remove());
}

async function measureCold(context: Context, server: BenchServer): Promise<Measure[]> {
  const raw = await createRawBoxes(server);
  const times = { ours: [] as number[], reference: [] as number[] };
  for (let index = 0; index < (context.isShort ? 6 : 15); index++) {
    const { id } = await time(times.ours, () => server.createBox());
    await callJson(server.admin, 'DELETE', `/v1/boxes/${id}?force=true`);
    const box = await raw.prepare();
    await time(times.reference, () => box.start());
    await box.remove();
  }
  return [comparedStep('create/cold', times.ours, times.reference)];
}

async function time<T>(times: number[], work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const value = await work();
  times.push(performance.now() - startedAt);
  return value;
}

function comparedStep(name: string, ours: readonly number[], reference: readonly number[]): Measure {
  const ratio = median(ours.map((value, index) => (reference[index] ?? Number.NaN) / value));
  return { name, unit: 'ms', ours: median(ours), reference: median(reference), ratio, percentiles: null, goal: null };
}

function onTopOf(name: string, ours: readonly number[], reference: readonly number[], mostMs: number): Measure {
  const extraMs = median(ours) - median(reference);
  return single(name, 'ms', extraMs, { text: `≤ ${mostMs}`, met: extraMs <= mostMs });
}

export const createMany: Suite = {
  name: 'create-many',
  async run(context) {
    const count = context.isShort ? 20 : 100;
    // First with the default number of spare workers on a small host, then with one for each box.
    return [
      ...(await measureMany(context, 'create-many', count, 2)),
      ...(await measureMany(context, 'create-many/warm', count, count)),
    ];
  },
};

async function measureMany(context: Context, name: string, count: number, spares: number): Promise<Measure[]> {
  return withServer(context, { args: ['--workers', String(spares)] }, async (server) => {
    const raw = await createRawBoxes(server);
    await server.createBox().then(({ id }) => server.admin.request('DELETE', `/v1/boxes/${id}?force=true`));
    let idleMb = 0;
    const measure = await compare({
      name,
      unit: 'boxes/s',
      better: 'more',
      rounds: context.isShort ? 2 : 3,
      async ours() {
        context.say(`waiting for ${spares} spare workers`);
        await sparesAreReady(server, spares);
        return manyOurs(server, count, async () => {
          idleMb = await workerPssMb(server);
        });
      },
      async reference() {
        // New spare workers start after the boxes are removed. Their start must not slow down the reference.
        await sparesAreReady(server, spares);
        return manyRaw(server, raw, count);
      },
      goal: ratioAtLeast(0.8),
    });
    return [measure, single(`${name}/pss-per-idle-worker`, 'MB', idleMb, { text: '≤ 25', met: idleMb <= 25 })];
  });
}

/** Creates and removes all boxes at once. The time of `between` does not count. */
async function manyOurs(server: BenchServer, count: number, between: () => Promise<void>): Promise<Round> {
  const connections = await openConnections(server.socketPath, count);
  const elapsed: number[] = [];
  const ids = await time(elapsed, () =>
    Promise.all(
      connections.map(async (connection) => {
        const { id } = await callJson<Box>(connection, 'POST', '/v1/boxes', smallBox);
        await runExec(connection, id);
        return id;
      }),
    ),
  );
  await between();
  await time(elapsed, () =>
    Promise.all(
      connections.map((connection, index) =>
        callJson(connection, 'DELETE', `/v1/boxes/${ids[index] ?? ''}?force=true`),
      ),
    ),
  );
  for (const connection of connections) connection.close();
  return { figure: count / (elapsed.reduce((sum, ms) => sum + ms, 0) / 1000) };
}

async function manyRaw(server: BenchServer, raw: RawBoxes, count: number): Promise<Round> {
  const elapsed: number[] = [];
  const lanes = Array.from({ length: count }, () => null);
  const boxes = await time(elapsed, () =>
    Promise.all(
      lanes.map(async () => {
        const box = await raw.create();
        const exec = await createRawExec({ ...server, boxId: box.boxId });
        expectSuccess(await exec(['/bin/true']));
        return box;
      }),
    ),
  );
  await time(elapsed, () => Promise.all(boxes.map((box) => box.remove())));
  return { figure: count / (elapsed.reduce((sum, ms) => sum + ms, 0) / 1000) };
}

/** The median memory of idle workers with a box: their own memory, and their part of shared memory (PSS). */
async function workerPssMb({ stateDir }: BenchServer): Promise<number> {
  const workers = (await processesOf(stateDir)).filter(({ role, box }) => role === 'worker' && box !== 'spare');
  return median(
    workers.map(({ pid }) => {
      const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
      return Number(/^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1] ?? 0) / 1024;
    }),
  );
}
