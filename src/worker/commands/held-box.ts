// The worker's one box: its driver, its commands, and the line to the writer. Made at the assignment; lives until the
// worker goes. control.ts calls it for the supervisor; every command ends before the engine is stopped, removed or let
// go.
import type { Exec } from '../../shared/api.ts';
import { settledWithin, withDeadline } from '../../shared/waiting/clock.ts';
import { type Config } from '../../shared/settings/config.ts';
import { boxHome, statePaths } from '../../shared/settings/state-dir.ts';
import type { WorkerSettings } from '../../shared/contracts/settings.ts';
import type { Assignment, ExecOrder, StreamOperation, WorkerContract } from '../../shared/contracts/worker.ts';
import { noWriterNotices, writerContract, type WriterContract } from '../../shared/contracts/writer.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import { makeMarkedHome } from '../../shared/host/host-marks.ts';
import { resolveHostPath } from '../../shared/host/host-paths.ts';
import { createInTurn } from '../../shared/waiting/in-turn.ts';
import type { ResultOf } from '../../shared/ipc/contract.ts';
import { createLink, type Link } from '../../shared/ipc/link.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import { createStopwatch } from '../../shared/observe/stage-times.ts';
import { writeSpill } from '../../shared/store/spill.ts';
import { receiveUpload, sendDownload } from '../files/box-files.ts';
import { createCommitQueue, type CommitQueue } from './commit-queue.ts';
import type { Driver, ReportProgress } from '../drivers/driver-contract.ts';
import { createDriver } from '../drivers/registry.ts';
import { createExec, type RunningExec } from './running-exec.ts';
import { createHoldEstimate, type HoldEstimate } from './hold.ts';
import { createTerminals, feedInput, type Terminals } from '../terminals/box-terminal.ts';

type BoxFigures = Pick<ResultOf<WorkerContract, 'figures'>, 'unacknowledgedBytes' | 'outputPauses' | 'engine'>;
type TimedExec = ResultOf<WorkerContract, 'exec'>;

export interface BoxRunner {
  readonly boxId: string;
  readonly generation: number;
  /** True while the engine runs under this worker. */
  readonly running: boolean;
  readonly execCount: number;
  /** For commands from now on. */
  takeSettings(settings: WorkerSettings): void;
  /** What it uses now; the engine's part is null where it does not run, or does not say. */
  figures(): Promise<BoxFigures>;
  prepareImage(progress: ReportProgress, signal: AbortSignal): Promise<void>;
  create(progress: ReportProgress, signal: AbortSignal): Promise<{ engineId: string }>;
  start(progress: ReportProgress, signal: AbortSignal): Promise<void>;
  /** After a predecessor's death; `execIds` are the commands of which processes were found. */
  adopt(): Promise<{ running: boolean; execIds: string[] }>;
  /** Kills what the predecessor left, except what is in `finishedExecs`. */
  endStrays(finishedExecs: ReadonlySet<string>): Promise<void>;
  exec(order: ExecOrder): Promise<TimedExec>;
  cancel(execId: string): Promise<Exec>;
  signal(execId: string, signal: number): Promise<Exec>;
  /** A stream whose token was shown. @throws whatever goes wrong, for the other side */
  serveStream(operation: StreamOperation, stream: ByteStream): Promise<void>;
  /** Processes of the box have `graceMs` to end by themselves. */
  stop(graceMs?: number): Promise<void>;
  remove(graceMs?: number): Promise<void>;
  /** Lets go of the box: waits for acknowledgements, else spills; a running engine stays. */
  release(): Promise<void>;
}

export interface BoxRunnerDeps {
  readonly config: Config;
  readonly workerId: string;
  readonly log: Logger;
  /** What this worker has made ahead for its driver. */
  readonly aheadDir: string;
  readonly onEngineExit: (reason: string) => void;
  readonly onUnkillable: (reason: string) => void;
  /** The writer says that another worker has the box: this one must go at once. */
  readonly onFenced: () => void;
}

/** @throws RUNTIME_ERROR when the engine cannot be loaded */
export async function createBoxRunner(deps: BoxRunnerDeps, assignment: Assignment): Promise<BoxRunner> {
  const { config } = deps;
  const { boxId, generation } = assignment;
  const log = deps.log.child({ boxId, generation });
  const paths = statePaths(config.stateDir);
  const link: Link<WriterContract> = createLink({
    path: paths.writerSocket,
    contract: writerContract,
    hello: { role: 'worker', boxId, generation },
    notices: noWriterNotices,
  });
  const queue = createCommitQueue({
    link,
    onRefused(error) {
      log.error({ err: error }, 'the writer refused for good');
      deps.onFenced();
    },
  });
  let runner: AssignedRunner | null = null;
  const driver: Driver = await createDriver(assignment.driver, config, {
    spec: assignment,
    homeDir: boxHome(config.stateDir, boxId),
    imagesDir: paths.imagesDir,
    volumeRoots: config.volumeRoots,
    aheadDir: deps.aheadDir,
    instanceId: assignment.instanceId,
    log,
    onEngineExit: (reason) => runner?.engineExited(reason),
  });
  runner = new AssignedRunner({ deps, assignment, log, link, queue, driver });
  return runner;
}

interface Parts {
  readonly deps: BoxRunnerDeps;
  readonly assignment: Assignment;
  readonly log: Logger;
  readonly link: Link<WriterContract>;
  readonly queue: CommitQueue;
  readonly driver: Driver;
}

class AssignedRunner implements BoxRunner {
  readonly boxId: string;
  readonly generation: number;
  readonly #parts: Parts;
  readonly #execs = new Map<string, RunningExec>();
  readonly #terminals: Terminals;
  readonly #hold: HoldEstimate;
  readonly #byKey = new Map<string, RunningExec>();
  // What a supervisor asked for before it died may still be under way when its successor asks for something else.
  readonly #inTurn = createInTurn();
  #running = false;
  #caps: Pick<WorkerSettings, 'execs' | 'outputMb'>;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#caps = parts.deps.config.caps;
    this.boxId = parts.assignment.boxId;
    this.generation = parts.assignment.generation;
    this.#terminals = createTerminals(parts.driver, parts.log);
    this.#hold = createHoldEstimate(parts.driver.shortExecMs);
  }

  get running(): boolean {
    return this.#running;
  }

  get execCount(): number {
    return this.#execs.size;
  }

  takeSettings({ execs, outputMb, logLevel }: WorkerSettings): void {
    this.#caps = { execs, outputMb };
    this.#parts.log.level = logLevel;
  }

  async figures(): Promise<BoxFigures> {
    const { queue, driver } = this.#parts;
    const engine = this.#running ? await driver.metrics().catch(() => null) : null;
    return { unacknowledgedBytes: queue.figures.bytes, outputPauses: queue.figures.pauses, engine };
  }

  prepareImage(progress: ReportProgress, signal: AbortSignal): Promise<void> {
    return this.#inTurn(() => this.#parts.driver.prepareImage(progress, signal));
  }

  create(progress: ReportProgress, signal: AbortSignal): Promise<{ engineId: string }> {
    const { driver, deps, assignment } = this.#parts;
    return this.#inTurn(async () => {
      makeMarkedHome(boxHome(deps.config.stateDir, this.boxId), assignment);
      return driver.create(progress, signal);
    });
  }

  start(progress: ReportProgress, signal: AbortSignal): Promise<void> {
    const { driver, deps, assignment } = this.#parts;
    return this.#inTurn(async () => {
      for (const { host_path: path } of assignment.volumes) await resolveHostPath(path, deps.config.volumeRoots);
      await driver.start(progress, signal);
      this.#running = true;
    });
  }

  adopt(): Promise<{ running: boolean; execIds: string[] }> {
    const { driver } = this.#parts;
    return this.#inTurn(async () => {
      this.#running = (await driver.reattach()) === 'running';
      faultPoint('worker.reattach.adopted');
      return { running: this.#running, execIds: this.#running ? await driver.foundExecs() : [] };
    });
  }

  endStrays(finishedExecs: ReadonlySet<string>): Promise<void> {
    return this.#inTurn(async () => {
      await this.#parts.driver.killStrayExecs(finishedExecs);
      faultPoint('worker.reattach.strays-killed');
    });
  }

  async exec(order: ExecOrder): Promise<TimedExec> {
    // An order whose answer was lost with the supervisor comes again.
    const known = order.claim === undefined ? undefined : this.#byKey.get(order.claim.key);
    if (known !== undefined) return this.#answerTo(known, order);
    const { driver, queue, log } = this.#parts;
    const { boxId, generation } = this;
    this.#needRunning();
    const caps = this.#caps;
    if (this.#execs.size >= caps.execs) {
      throw new BoxRunError(
        'RESOURCE_EXCEEDED',
        `${caps.execs} commands run in box ${boxId} already (BOXRUN_MAX_EXECS raises the limit)`,
      );
    }
    const startedAt = performance.now();
    const outputBytesMax = caps.outputMb * 1024 * 1024;
    const created = createExec(
      { driver, queue, log, boxId, generation, outputBytesMax, onUnkillable: this.#parts.deps.onUnkillable },
      order,
    );
    this.#execs.set(created.id, created);
    if (order.claim !== undefined) this.#byKey.set(order.claim.key, created);
    void created.finished.then(() => {
      this.#execs.delete(created.id);
      if (order.claim !== undefined) this.#forgetLater(order.claim.key);
      this.#hold.observe(performance.now() - startedAt);
    });
    return this.#answerTo(created, order);
  }

  async #answerTo(exec: RunningExec, order: ExecOrder): Promise<TimedExec> {
    const watch = createStopwatch();
    await watch.time('spawn', () => exec.started);
    if (order.stdin === true) return { ...exec.exec(), timings: watch.times }; // It waits for its input.
    await watch.time('hold', () => settledWithin(exec.finished, this.#hold.holdMs()));
    return { ...exec.exec(), timings: watch.times };
  }

  /** Who looked for the key in the database just before its commit still finds it here. */
  #forgetLater(key: string): void {
    setTimeout(() => this.#byKey.delete(key), limits.requestTimeoutMs).unref();
  }

  async cancel(execId: string): Promise<Exec> {
    const target = this.#find(execId);
    faultPoint('worker.cancel.asked');
    await target.kill({ kind: 'canceled' });
    faultPoint('worker.cancel.ended');
    const exec = target.exec();
    if (exec.status === 'canceled') return exec;
    throw new BoxRunError('EXEC_ALREADY_FINISHED', `command ${execId} has ended already: ${exec.status}`);
  }

  async signal(execId: string, signal: number): Promise<Exec> {
    const target = this.#find(execId);
    await (await target.handle()).signal(signal);
    return target.exec();
  }

  async serveStream(operation: StreamOperation, stream: ByteStream): Promise<void> {
    this.#needRunning();
    const { driver, assignment } = this.#parts;
    const files = { driver, workdir: assignment.workdir };
    switch (operation.kind) {
      case 'upload':
        return this.#transfer(() => receiveUpload(files, operation.path, stream));
      case 'download':
        return this.#transfer(() => sendDownload(files, operation.path, stream));
      case 'attach':
        return this.#terminals.serve(operation, stream);
      case 'input':
        return feedInput(await this.#find(operation.execId).handle(), stream);
    }
  }

  /** What a box that is stopped does to a file on its way is of no interest. */
  async #transfer(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#needRunning();
      throw error;
    }
  }

  stop(graceMs: number = limits.stopGraceMs): Promise<void> {
    return this.#inTurn(() => this.#endWith('the box was stopped', () => this.#parts.driver.stop(graceMs)));
  }

  remove(graceMs: number = limits.removeGraceMs): Promise<void> {
    const { driver } = this.#parts;
    return this.#inTurn(() => this.#endWith('the box was removed', () => driver.remove(graceMs)));
  }

  async release(): Promise<void> {
    const { deps, queue, driver, link } = this.#parts;
    const { boxId, generation } = this;
    await this.#terminals.end();
    await withDeadline(queue.committed(), limits.workerExitMs / 2, 'the writer').catch(async () => {
      const { spillDir } = statePaths(deps.config.stateDir);
      await writeSpill(spillDir, deps.workerId, { boxId, generation, changes: [...queue.unacknowledged()] });
      faultPoint('worker.spill.named');
    });
    if (this.#running) await driver.close();
    link.close();
  }

  engineExited(reason: string): void {
    if (!this.#running) return;
    this.#running = false;
    const lost = [...this.#execs.values()];
    for (const exec of lost) exec.lose(`the box ended: ${reason}`);
    void Promise.all(lost.map((exec) => exec.finished)).then(() => {
      this.#parts.deps.onEngineExit(reason);
    });
  }

  /**
   * Ends the engine, which gives every process of the box its time to end. What a command still writes belongs to its
   * output.
   */
  async #endWith(message: string, endEngine: () => Promise<void>): Promise<void> {
    const { log } = this.#parts;
    this.#running = false; // No new commands.
    const execs = [...this.#execs.values()];
    for (const exec of execs) exec.expectEnd({ kind: 'box', message });
    faultPoint('worker.stop.commands-told');
    await endEngine();
    faultPoint('worker.stop.engine-ended');
    // With the engine every process of the box has ended: a command whose end nobody tells is lost.
    await Promise.all(
      execs.map(async (exec) => {
        if (!(await settledWithin(exec.exited, limits.runnerReportMs))) exec.lose(message);
      }),
    );
    const ends = Promise.all([...execs.map((exec) => exec.ended), this.#terminals.end()]);
    await withDeadline(ends, limits.exitDrainBusyMs, 'the output of the commands').catch((error: unknown) => {
      log.error({ err: error }, 'the output of commands does not end');
    });
    const left = [...this.#execs.values()];
    for (const exec of left) exec.lose(message);
    const committed = Promise.all(left.map((exec) => exec.finished));
    await withDeadline(committed, limits.workerExitMs / 2, 'the writer').catch((error: unknown) => {
      log.warn({ err: error }, 'the engine has ended before its commands could be committed');
    });
  }

  #needRunning(): void {
    if (!this.#running) throw new BoxRunError('BOX_NOT_RUNNING', `box ${this.boxId} is not running`);
  }

  #find(execId: string): RunningExec {
    const exec = this.#execs.get(execId);
    if (exec === undefined) throw new BoxRunError('EXEC_NOT_FOUND', `no command ${execId} runs in box ${this.boxId}`);
    return exec;
  }
}
