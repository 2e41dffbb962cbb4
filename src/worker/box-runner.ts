// The worker's one box: its driver, its commands, and the line to the writer. Made at the assignment; lives until the worker goes.
// control.ts calls it for the supervisor; every command ends before the engine is stopped, removed or let go.
import type { Exec } from '../shared/api.ts';
import { sleep, withDeadline } from '../shared/clock.ts';
import { boxHome, statePaths, type Config } from '../shared/config.ts';
import type { Assignment, ExecOrder } from '../shared/contracts/worker.ts';
import { writerContract, type WriterContract } from '../shared/contracts/writer.ts';
import { BoxRunError } from '../shared/errors.ts';
import { createInTurn } from '../shared/in-turn.ts';
import { createLink, type Link } from '../shared/ipc/link.ts';
import { limits } from '../shared/limits.ts';
import type { Logger } from '../shared/log.ts';
import { writeSpill } from '../shared/spill.ts';
import { createCommitQueue } from './commit-queue.ts';
import type { Driver, ReportProgress } from './drivers/driver.ts';
import { createDriver } from './drivers/registry.ts';
import { createExec, type RunningExec } from './exec.ts';
import { createHoldEstimate } from './hold.ts';

export interface BoxRunner {
  readonly boxId: string;
  readonly generation: number;
  /** True while the engine runs under this worker. */
  readonly running: boolean;
  readonly execCount: number;
  prepareImage(progress: ReportProgress, signal: AbortSignal): Promise<void>;
  create(progress: ReportProgress, signal: AbortSignal): Promise<{ engineId: string }>;
  start(progress: ReportProgress, signal: AbortSignal): Promise<void>;
  reattach(finishedExecs: ReadonlySet<string>): Promise<boolean>;
  exec(order: ExecOrder): Promise<Exec>;
  cancel(execId: string): Promise<Exec>;
  stop(): Promise<void>;
  remove(): Promise<void>;
  /** Lets go of the box: waits for acknowledgements, else spills; a running engine stays. */
  release(): Promise<void>;
}

export interface BoxRunnerDeps {
  readonly config: Config;
  readonly workerId: string;
  readonly log: Logger;
  readonly onEngineExit: (reason: string) => void;
  /** The writer says that another worker has the box: this one must go at once. */
  readonly onFenced: () => void;
}

const stopGraceMs = 5_000;

/** @throws RUNTIME_ERROR when the engine cannot be loaded */
export async function createBoxRunner(deps: BoxRunnerDeps, assignment: Assignment): Promise<BoxRunner> {
  const { config } = deps;
  const { boxId, generation } = assignment;
  const log = deps.log.child({ boxId, generation });
  const paths = statePaths(config.stateDir);
  const execs = new Map<string, RunningExec>();
  // What a supervisor asked for before it died may still be under way when its successor asks for something else.
  const inTurn = createInTurn();
  let running = false;

  const link: Link<WriterContract> = createLink({
    path: paths.writerSocket,
    contract: writerContract,
    hello: { role: 'worker', boxId, generation },
    notices: { events: () => undefined, lagged: () => undefined },
  });
  const queue = createCommitQueue({
    link,
    onRefused(error) {
      log.error({ err: error }, 'the writer refused for good');
      deps.onFenced();
    },
  });
  const driver: Driver = await createDriver(assignment.driver, config, {
    spec: assignment,
    homeDir: boxHome(config.stateDir, boxId),
    imagesDir: paths.imagesDir,
    instanceId: assignment.instanceId,
    log,
    onEngineExit(reason) {
      if (!running) return;
      running = false;
      const lost = [...execs.values()];
      for (const exec of lost) exec.lose(`the box ended: ${reason}`);
      void Promise.all(lost.map((exec) => exec.finished)).then(() => {
        deps.onEngineExit(reason);
      });
    },
  });
  const hold = createHoldEstimate(driver.shortExecMs);

  /** Ends every command, then the engine: what resists its kill ends with the engine. */
  async function endWith(message: string, endEngine: () => Promise<void>): Promise<void> {
    const kills = [...execs.values()].map((exec) => exec.kill({ kind: 'box', message }));
    for (const outcome of await Promise.allSettled(kills)) {
      if (outcome.status === 'rejected') log.error({ err: outcome.reason as unknown }, 'a command could not be killed');
    }
    running = false;
    await endEngine();
    const left = [...execs.values()];
    for (const exec of left) exec.lose(message);
    await Promise.all(left.map((exec) => exec.finished));
  }

  async function exec(order: ExecOrder): Promise<Exec> {
    if (!running) throw new BoxRunError('BOX_NOT_RUNNING', `box ${boxId} is not running`);
    if (execs.size >= limits.execsRunningMax) {
      throw new BoxRunError('RESOURCE_EXCEEDED', `${limits.execsRunningMax} commands run in box ${boxId} already`);
    }
    const startedAt = performance.now();
    const created = createExec({ driver, queue, log, boxId, generation }, order);
    execs.set(created.id, created);
    void created.finished.then(() => {
      execs.delete(created.id);
      hold.observe(performance.now() - startedAt);
    });
    await created.started;
    const waiting = new AbortController();
    await Promise.race([created.finished, sleep(hold.holdMs(), waiting.signal)]);
    waiting.abort();
    return created.exec();
  }

  return {
    boxId,
    generation,
    get running() {
      return running;
    },
    get execCount() {
      return execs.size;
    },
    prepareImage: (progress, signal) => inTurn(() => driver.prepareImage(progress, signal)),
    create: (progress, signal) => inTurn(() => driver.create(progress, signal)),
    start: (progress, signal) =>
      inTurn(async () => {
        await driver.start(progress, signal);
        running = true;
      }),
    reattach: (finishedExecs) =>
      inTurn(async () => {
        running = (await driver.reattach()) === 'running';
        if (running) await driver.killStrayExecs(finishedExecs);
        return running;
      }),
    exec,
    async cancel(execId) {
      const target = execs.get(execId);
      if (target === undefined) throw new BoxRunError('EXEC_NOT_FOUND', `no command ${execId} runs in box ${boxId}`);
      await target.kill({ kind: 'canceled' });
      const exec = target.exec();
      if (exec.status === 'canceled') return exec;
      throw new BoxRunError('EXEC_ALREADY_FINISHED', `command ${execId} has ended already: ${exec.status}`);
    },
    stop: () => inTurn(() => endWith('the box was stopped', () => driver.stop(stopGraceMs))),
    remove: () => inTurn(() => endWith('the box was removed', () => driver.remove())),
    async release() {
      await withDeadline(queue.committed(), limits.workerExitMs / 2, 'the writer').catch(async () => {
        await writeSpill(paths.spillDir, deps.workerId, { boxId, generation, changes: [...queue.unacknowledged()] });
      });
      if (running) await driver.close();
      link.close();
    },
  };
}
