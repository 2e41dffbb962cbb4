// The commands that run in the worker's box, from the order to the committed end. A command stays in the list until its
// end is committed. When the engine ends, every command in the list ends too, and none is left out.
import type { Exec } from '../../shared/api.ts';
import type { WorkerSettings } from '../../shared/contracts/settings.ts';
import type { ExecOrder, ResumedExec, WorkerContract } from '../../shared/contracts/worker.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { faultPoint } from '../../shared/faults/fault.ts';
import type { ResultOf } from '../../shared/ipc/contract.ts';
import { limits } from '../../shared/limits.ts';
import { createStopwatch } from '../../shared/observe/stage-times.ts';
import { settledWithin, withDeadline } from '../../shared/waiting/clock.ts';
import type { Driver } from '../drivers/driver-contract.ts';
import { createHoldEstimate, type HoldEstimate } from './hold.ts';
import { createExec, resumeExec, type ExecDeps, type RunningExec } from './running-exec.ts';

export type TimedExec = ResultOf<WorkerContract, 'exec'>;
/** The bounds on commands: how many run at once, and how much output of one is kept, in MiB. */
type CommandCaps = Pick<WorkerSettings, 'execs' | 'outputMb'>;

interface BoxCommandsDeps extends Omit<ExecDeps, 'driver' | 'outputBytesMax'> {
  readonly driver: Pick<Driver, 'exec' | 'resumeExec' | 'shortExecMs'>;
  /** @throws BOX_NOT_RUNNING */
  readonly needRunning: () => void;
}

export class BoxCommands {
  readonly #deps: BoxCommandsDeps;
  readonly #execs = new Map<string, RunningExec>();
  readonly #byKey = new Map<string, RunningExec>();
  readonly #hold: HoldEstimate;
  #caps: CommandCaps;

  constructor(deps: BoxCommandsDeps, caps: CommandCaps) {
    this.#deps = deps;
    this.#caps = caps;
    this.#hold = createHoldEstimate(deps.driver.shortExecMs);
  }

  get count(): number {
    return this.#execs.size;
  }

  /** The new bounds hold for commands that start from now on. */
  takeCaps(caps: CommandCaps): void {
    this.#caps = caps;
  }

  /**
   * Starts a command. Its row is committed when this resolves. The answer is held for a short time, so that a short
   * command is already finished in it.
   * @throws BOX_NOT_RUNNING, RESOURCE_EXCEEDED when the box runs as many commands as it may
   */
  async exec(order: ExecOrder): Promise<TimedExec> {
    // `claim` has the Idempotency-Key of the client's request. The supervisor may have died before it got the answer.
    // Its successor then sends the same order again.
    const known = order.claim === undefined ? undefined : this.#byKey.get(order.claim.key);
    if (known !== undefined) return this.#answerTo(known, order);
    const { boxId } = this.#deps;
    this.#deps.needRunning();
    const caps = this.#caps;
    if (this.#execs.size >= caps.execs) {
      throw new BoxRunError(
        'RESOURCE_EXCEEDED',
        `${caps.execs} commands run in box ${boxId} already (BOXRUN_MAX_EXECS raises the limit)`,
      );
    }
    const startedAt = performance.now();
    const created = createExec(this.#execDeps(), order);
    this.#execs.set(created.id, created);
    if (order.claim !== undefined) this.#byKey.set(order.claim.key, created);
    void created.finished.then(() => {
      this.#execs.delete(created.id);
      if (order.claim !== undefined) this.#removeKeyLater(order.claim.key);
      this.#hold.observe(performance.now() - startedAt);
    });
    return this.#answerTo(created, order);
  }

  /** Continues commands of an earlier worker. If one cannot be continued, it fails like one that could not start. */
  resume(resumed: readonly ResumedExec[]): void {
    for (const each of resumed) {
      const exec = resumeExec(this.#execDeps(), each);
      this.#execs.set(exec.id, exec);
      void exec.finished.then(() => this.#execs.delete(exec.id));
    }
  }

  #execDeps(): ExecDeps {
    return { ...this.#deps, outputBytesMax: this.#caps.outputMb * 1024 * 1024 };
  }

  /** @throws EXEC_NOT_FOUND, EXEC_ALREADY_FINISHED when the command ended by itself before the kill */
  async cancel(execId: string): Promise<Exec> {
    const target = this.find(execId);
    faultPoint('worker.cancel.asked');
    await target.kill({ kind: 'canceled' });
    faultPoint('worker.cancel.ended');
    const exec = target.exec();
    if (exec.status === 'canceled') return exec;
    throw new BoxRunError('EXEC_ALREADY_FINISHED', `command ${execId} has ended already: ${exec.status}`);
  }

  /** @throws EXEC_NOT_FOUND */
  async signal(execId: string, signal: number): Promise<Exec> {
    const target = this.find(execId);
    await (await target.handle()).signal(signal);
    return target.exec();
  }

  /** @throws EXEC_NOT_FOUND */
  find(execId: string): RunningExec {
    const exec = this.#execs.get(execId);
    if (exec === undefined) {
      throw new BoxRunError('EXEC_NOT_FOUND', `no command ${execId} runs in box ${this.#deps.boxId}`);
    }
    return exec;
  }

  /** Ends all commands as failed, because the engine has ended by itself. Resolves when their ends are committed. */
  async loseAll(reason: string): Promise<void> {
    const lost = [...this.#execs.values()];
    for (const exec of lost) exec.lose(`the box ended: ${reason}`);
    await Promise.all(lost.map((exec) => exec.finished));
  }

  /**
   * Ends the engine, and then all commands. The engine gives every process of the box its time to end. Output that a
   * command writes in that time still belongs to the command. The caller refuses new commands before it calls this.
   * @param message the error of commands that end for this reason
   * @param endEngine stops or removes the box
   * @param endTerminals kills the terminals of the box
   */
  async endWith(message: string, endEngine: () => Promise<void>, endTerminals: () => Promise<void>): Promise<void> {
    const { log } = this.#deps;
    const execs = [...this.#execs.values()];
    for (const exec of execs) exec.expectEnd({ kind: 'box', message });
    faultPoint('worker.stop.commands-told');
    await endEngine();
    faultPoint('worker.stop.engine-ended');
    // Every process of the box has ended with the engine. If the driver does not report the end of a command in time,
    // the command counts as lost.
    await Promise.all(
      execs.map(async (exec) => {
        if (!(await settledWithin(exec.exited, limits.commandEndReportMs))) exec.lose(message);
      }),
    );
    const ends = Promise.all([...execs.map((exec) => exec.ended), endTerminals()]);
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

  async #answerTo(exec: RunningExec, order: ExecOrder): Promise<TimedExec> {
    const stopwatch = createStopwatch();
    await stopwatch.time('spawn', () => exec.started);
    // A command that waits for its input does not end while the answer is held.
    if (order.stdin === true) return { ...exec.exec(), timings: stopwatch.times };
    await stopwatch.time('hold', () => settledWithin(exec.finished, this.#hold.holdMs()));
    return { ...exec.exec(), timings: stopwatch.times };
  }

  /**
   * A supervisor may have looked for the key in the database just before the command was committed. Its order comes a
   * little later, and must still find the command here.
   */
  #removeKeyLater(key: string): void {
    setTimeout(() => this.#byKey.delete(key), limits.requestTimeoutMs).unref();
  }
}
