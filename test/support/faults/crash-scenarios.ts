// The scenario for each fault point. A scenario leads a process to the point: mostly by an operation on the subject,
// otherwise by the death of a process or the end of the server. It also prepares the subject, and checks the result,
// which depends on whether the operation was acknowledged.
import type { FaultPoint } from '../../../src/shared/faults/fault-points.ts';
import { killQuietly } from '../../../src/shared/process/child-process.ts';
import { BoxRunError, type Box, type Exec } from '../../../src/sdk/index.ts';
import { collectPatiently, expectWhole, inTime, type Arena } from './crash-arena.ts';
import type { Collected } from '../servers/crash-server.ts';
import { eventually } from '../runs/eventually.ts';

export type Outcome = { readonly value: unknown } | { readonly error: unknown };

export interface Scenario {
  /** Prepares the running subject, before the point is armed. Its result is passed to `act` and `verify`. */
  prepare?(arena: Arena): Promise<unknown>;
  /** Does the operation, and resolves with its answer. */
  act(arena: Arena, prepared: unknown): Promise<unknown>;
  /**
   * Checks the result.
   * @param isHit true when the fault hit the worker or the engine of the subject
   * @throws when the state does not fit the answer
   */
  verify?(arena: Arena, outcome: Outcome, isHit: boolean, prepared: unknown): Promise<void>;
}

const printing = [
  'sh',
  '-c',
  'i=0; while [ $i -lt 400 ]; do echo line-$i; i=$((i+1)); [ $((i%40)) = 0 ] && sleep 0.02; done; echo end-$i',
];
const sleeping = ['sh', '-c', 'sleep 1000 & sleep 1000'];

async function expectStatus(arena: Arena, allowed: readonly (string | null)[]): Promise<void> {
  const status = (await arena.subject())?.status ?? null;
  if (!allowed.includes(status)) throw new Error(`the subject is ${status ?? 'gone'}, not ${allowed.join(' or ')}`);
}

/** If the engine was hit, the box may have stopped after the answer. */
const alsoDown = (isHit: boolean) => (isHit ? ['stopped', 'error'] : []);

const removeSubject = (arena: Arena) => arena.client.removeBox('subject', { force: true });
const stopSubject = (arena: Arena) => arena.client.stopBox('subject');

async function expectOnlyWitness(arena: Arena): Promise<void> {
  await eventually('the box of the run is gone', async () => (await arena.client.listBoxes()).length === 1, 60_000);
}

async function expectNoSleepers(arena: Arena): Promise<void> {
  if ((await arena.subject())?.status !== 'running') return;
  const exec = await arena.client.startExec('subject', { cmd: ['sh', '-c', 'ps | grep -c "[s]leep 1000"'] });
  const { stdout } = await inTime(collectPatiently(arena.client, exec), 'the processes of the subject are listed');
  if (stdout !== '0\n') throw new Error(`of an ended command there are ${stdout.trim()} processes`);
}

const create: Scenario = {
  prepare: removeSubject,
  act: (arena) => arena.makeSubject(),
  verify: (arena, outcome, isHit) =>
    expectStatus(arena, 'value' in outcome ? ['running', ...alsoDown(isHit)] : ['running', null, ...alsoDown(isHit)]),
};

const start: Scenario = {
  prepare: stopSubject,
  act: (arena) => arena.client.startBox('subject'),
  verify: (arena, outcome, isHit) =>
    expectStatus(arena, 'value' in outcome ? ['running', ...alsoDown(isHit)] : ['running', 'stopped', 'error']),
};

const restart: Scenario = {
  act: (arena) => arena.client.restartBox('subject'),
  verify: (arena, outcome, isHit, prepared) => start.verify?.(arena, outcome, isHit, prepared) ?? Promise.resolve(),
};

const stop: Scenario = {
  act: stopSubject,
  verify: (arena, outcome) => expectStatus(arena, 'value' in outcome ? ['stopped'] : ['stopped', 'running', 'error']),
};

const remove: Scenario = {
  async prepare(arena) {
    await collectPatiently(arena.client, await arena.client.startExec('subject', { cmd: printing }));
  },
  act: removeSubject,
  verify: (arena, outcome) => expectStatus(arena, 'value' in outcome ? [null] : [null, 'stopped', 'running', 'error']),
};

/** An acknowledged command has its complete output. Otherwise its exit has a reason, and its box was hit. */
const exec: Scenario = {
  async act(arena) {
    const started = await arena.client.startExec('subject', { cmd: printing });
    return inTime(collectPatiently(arena.client, started), 'the command ends');
  },
  async verify(arena, outcome, isHit) {
    if ('value' in outcome) {
      const collected = outcome.value as Collected;
      expectWhole(collected, /^end-(\d+)$/);
      if (!isHit && collected.exit.exitCode !== 0)
        throw new Error(`it was not hit, and ended with ${collected.exit.error}`);
    }
    if (!isHit) await expectStatus(arena, ['running']);
    for (const { id } of await arena.client.listExecs('subject')) {
      await eventually(
        `command ${id} ends`,
        async () => (await arena.client.getExec('subject', id)).status !== 'running',
        60_000,
      );
    }
  },
};

/** The box has already had commands, so its agent starts the next one. */
const execByRunner: Scenario = {
  ...exec,
  prepare: (arena) =>
    eventually('the subject has an agent', async () => {
      const { stdout } = await collectPatiently(arena.client, await arena.client.startExec('subject', { cmd: ['ps'] }));
      return stdout.includes('/agent serve');
    }),
};

const cancel: Scenario = {
  prepare: async (arena) => (await arena.client.startExec('subject', { cmd: sleeping })).id,
  act: (arena, id) => arena.client.cancelExec('subject', id as string),
  async verify(arena, outcome, _isHit, id) {
    const { status } = await arena.client.getExec('subject', id as string);
    if ('value' in outcome && status === 'running') throw new Error('the command was canceled and is running');
    if (status === 'running') await arena.client.cancelExec('subject', id as string);
    await expectNoSleepers(arena);
  },
};

const run: Scenario = {
  prepare: removeSubject,
  act: (arena) => arena.run(['sh', '-c', 'echo out']),
  async verify(arena, outcome, isHit) {
    const said = 'value' in outcome ? (outcome.value as { stdout: string; error_message: string | null }) : null;
    if (said !== null && said.stdout !== 'out\n' && !isHit) throw new Error(`it ran, and said ${JSON.stringify(said)}`);
    await expectOnlyWitness(arena);
  },
};

/** The client of a run leaves while the box is created. */
const runAndLeaveDuringCreate: Scenario = {
  prepare: removeSubject,
  async act(arena) {
    const leaving = new AbortController();
    let running: Promise<unknown> = Promise.resolve();
    try {
      // Follows the state events, because polling may be too slow to see the create.
      for await (const { type } of arena.client.events({ signal: AbortSignal.timeout(30_000) })) {
        if (type === 'ready') running = arena.run(sleeping, leaving.signal);
        running.catch(() => undefined);
        if (type === 'box.created') break;
      }
    } finally {
      leaving.abort();
    }
    await running;
  },
  verify: expectOnlyWitness,
};

const gc: Scenario = {
  prepare: stopSubject,
  act: (arena) => arena.client.gc(0),
  verify: (arena, outcome) => expectStatus(arena, 'value' in outcome ? [null] : [null, 'stopped', 'error']),
};

/** The sweep removes a box that is only on the host, and keeps its disk in the lost directory. */
const reconcile: Scenario = {
  async act(arena) {
    const boxId = arena.plantStray();
    await eventually('the stray is gone', async () => !arena.homes().includes(boxId), 60_000);
    return boxId;
  },
  verify: async (arena) => {
    await eventually('its disk is in the lost directory', async () => arena.keptDisks() > 0, 60_000);
  },
};

/** The death of a process leads to the point. A command in the subject runs in the meantime. */
function death(role: 'supervisor' | 'gateway' | 'writer' | 'worker'): Scenario {
  return {
    prepare: (arena) => arena.client.startExec('subject', { cmd: sleeping }),
    async act(arena) {
      const box = role === 'worker' ? (await arena.subject())?.id : undefined;
      process.kill(await arena.pidOf(role, box), 'SIGKILL');
    },
    async verify(arena, _outcome, isHit, prepared) {
      const { id } = prepared as { id: string };
      const { status } = await arena.client.getExec('subject', id);
      const isLost = isHit || role === 'worker';
      if (!isLost && status !== 'running') throw new Error(`the command in the subject is ${status}`);
      if (status === 'running') await arena.client.cancelExec('subject', id);
      await expectNoSleepers(arena);
    },
  };
}

const serve: Scenario = {
  async act(arena) {
    process.kill(await arena.pidOf('keeper'), 'SIGKILL');
    await arena.serveAgain();
  },
};

const end: Scenario = {
  act: (arena) => arena.server.end(),
};

/** All boxes are stopped first, so that the writer ends with the server. */
const endOfAll: Scenario = {
  async prepare(arena) {
    for (const { id, status } of await arena.client.listBoxes())
      if (status === 'running') await arena.client.stopBox(id);
  },
  act: (arena) => arena.server.end(),
};

/** The writer is frozen while a box is stopped, so that the worker has to spill the last output of the command. */
const spill: Scenario = {
  async prepare(arena) {
    const counting = ['sh', '-c', 'i=0; while true; do echo line-$i; i=$((i+1)); sleep 0.01; done'];
    return arena.client.startExec('subject', { cmd: counting });
  },
  async act(arena) {
    const { id } = (await arena.subject()) as Box;
    const worker = await arena.pidOf('worker', id);
    process.kill(worker, 'SIGSTOP');
    const stopped = stopSubject(arena);
    stopped.catch(() => undefined); // A kill may end it before the code below awaits it.
    try {
      await eventually('the subject is stopping', async () => arena.stateOf(id) === 'stopping');
      await arena.freezeWriter();
    } finally {
      killQuietly(worker, 'SIGCONT');
    }
    await eventually(
      'the worker has spilled, or is gone',
      async () => {
        if (arena.spills() > 0 || !(await arena.isAlive(worker))) return true;
        await arena.freezeWriter(); // The keeper may have started another writer, if the worker is slow on a busy host.
        return false;
      },
      60_000,
    );
    return stopped;
  },
  async verify(arena, outcome, isHit, exec) {
    await stop.verify?.(arena, outcome, isHit, exec);
    const { id } = exec as Exec;
    if ((await arena.client.getExec('subject', id)).status === 'running') await arena.client.cancelExec('subject', id);
    const collected = await inTime(collectPatiently(arena.client, exec as Exec), 'the command has ended');
    if (!collected.stdout.startsWith('line-0\n')) throw new Error('the command has printed nothing');
    expectWhole(collected, /^end-(\d+)$/);
  },
};

const byStep: Readonly<Record<string, Scenario>> = {
  'keeper.boot': serve,
  'keeper.restart': death('gateway'),
  'keeper.end': end,
  'supervisor.spill': spill,
  'worker.spill': spill,
  'supervisor.boot': death('supervisor'),
  'supervisor.adoption': death('supervisor'),
  'supervisor.create': create,
  'supervisor.start': start,
  'supervisor.exec': exec,
  'supervisor.cancel': cancel,
  'supervisor.stop': stop,
  'supervisor.restart': restart,
  'supervisor.remove': remove,
  'supervisor.run': run,
  'supervisor.gc': gc,
  'supervisor.succession': death('worker'),
  'supervisor.reconcile': reconcile,
  'writer.boot': death('writer'),
  'writer.insert-box': create,
  'writer.update-box': stop,
  'writer.remove-box': remove,
  'writer.open-lease': death('worker'),
  'writer.close-lease': death('worker'),
  'writer.change-execs': exec,
  'writer.end': endOfAll,
  'worker.boot': create,
  'worker.assign': create,
  'worker.create': create,
  'worker.start': start,
  'worker.reattach': death('worker'),
  'worker.exec': exec,
  'worker.output': exec,
  'worker.cancel': cancel,
  'worker.stop': stop,
  'worker.remove': remove,
  'worker.leave': stop,
  'gateway.boot': death('gateway'),
  'gateway.create': create,
  'gateway.start': start,
  'gateway.stop': stop,
  'gateway.remove': remove,
  'gateway.exec': exec,
  'gateway.cancel': cancel,
  'gateway.events': exec,
  'gateway.run': run,
};

export function scenarioOf(point: FaultPoint): Scenario {
  if (point === 'supervisor.run.caller-gone') return runAndLeaveDuringCreate;
  if (point === 'worker.exec.ordered') return execByRunner;
  const [process, step] = point.split('.');
  const scenario = byStep[`${process}.${step}`];
  if (scenario === undefined) throw new Error(`no scenario leads to ${point}`);
  return scenario;
}

export function isAnswer(error: unknown): boolean {
  return error instanceof BoxRunError;
}
