// The one box that this worker holds: its driver, its commands, its terminals and the link to the writer. The worker
// gets the box with the assignment, and holds it until the worker ends. Calls that change the box run one after the
// other; commands, terminals and files run beside them. Every command has ended before the worker reports a stop or a
// removal as done.
import type { AgentUse, BoxProcess, Exec } from '../../shared/api.ts';
import { withDeadline } from '../../shared/waiting/clock.ts';
import { type Config } from '../../shared/settings/config.ts';
import { boxHome, statePaths } from '../../shared/settings/state-dir.ts';
import type { WorkerSettings } from '../../shared/contracts/settings.ts';
import type {
  Assignment,
  ExecOrder,
  ResumedExec,
  StreamOperation,
  WorkerContract,
} from '../../shared/contracts/worker.ts';
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
import { writeSpill } from '../../shared/contracts/spill.ts';
import { listProcesses, signalProcess } from '../files/box-processes.ts';
import { receiveUpload, sendDownload } from '../files/box-files.ts';
import { BoxCommands, type TimedExec } from './box-commands.ts';
import { createCommitQueue, type CommitQueue } from '../output/commit-queue.ts';
import type { BoxStats, Driver, ReportProgress } from '../drivers/driver-contract.ts';
import { createDriver } from '../drivers/registry.ts';
import { createTerminals, feedInput, type Terminals } from '../terminals/box-terminal.ts';

type BoxFigures = Pick<
  ResultOf<WorkerContract, 'figures'>,
  'unacknowledgedBytes' | 'outputPauses' | 'engine' | 'agent'
>;

/** Calls that use a running engine throw BOX_NOT_RUNNING when it does not run. */
export interface HeldBox {
  readonly boxId: string;
  readonly generation: number;
  /** True while the engine runs under this worker. */
  readonly running: boolean;
  /** The number of commands whose end is not committed yet. */
  readonly execCount: number;
  /** The new settings hold for commands that start from now on. */
  takeSettings(settings: WorkerSettings): void;
  /** What the box uses now. `engine` is null when the engine does not run, or does not tell. */
  figures(): Promise<BoxFigures>;
  stats(): Promise<BoxStats & { readonly agent?: AgentUse }>;
  processes(): Promise<BoxProcess[]>;
  signalProcess(pid: number, signal: number): Promise<void>;
  /** @throws as Driver.prepareImage */
  prepareImage(progress: ReportProgress, signal: AbortSignal): Promise<void>;
  create(progress: ReportProgress, signal: AbortSignal): Promise<{ engineId: string }>;
  start(progress: ReportProgress, signal: AbortSignal): Promise<void>;
  /**
   * Takes over the box of a worker that died.
   * @returns whether the engine runs, and the ids of the commands of which there are still processes
   */
  adopt(): Promise<{ running: boolean; execIds: string[]; heldExecs: string[] }>;
  /**
   * Kills the commands that the dead worker left. The background children of `finishedExecs` live on, and `keptExecs`
   * go on: `resumeExecs` follows.
   */
  endStrays(finishedExecs: ReadonlySet<string>, keptExecs: ReadonlySet<string>): Promise<void>;
  /** Continues commands that the dead worker left, behind what is committed of them. */
  resumeExecs(execs: readonly ResumedExec[]): void;
  /** @throws as BoxCommands.exec */
  exec(order: ExecOrder): Promise<TimedExec>;
  /** @throws as BoxCommands.cancel */
  cancel(execId: string): Promise<Exec>;
  /**
   * Sends a signal to the leader of a command.
   * @param signal its number
   * @throws EXEC_NOT_FOUND
   */
  signal(execId: string, signal: number): Promise<Exec>;
  /** Runs the operation of a stream to its end. @throws every error of the operation; the client gets it */
  serveStream(operation: StreamOperation, stream: ByteStream): Promise<void>;
  /** Stops the box. Its processes have `graceMs` milliseconds to end by themselves; then they are killed. */
  stop(graceMs?: number): Promise<void>;
  /** Removes the box. Its processes have `graceMs` milliseconds to end by themselves; then they are killed. */
  remove(graceMs?: number): Promise<void>;
  /**
   * Releases the box without stopping it. Waits until the writer has acknowledged all changes. If that takes too long,
   * the changes go into a spill.
   */
  release(): Promise<void>;
}

export interface HeldBoxDeps {
  readonly config: Config;
  readonly workerId: string;
  readonly log: Logger;
  /** The directory with the files that this worker prepared for its future box. */
  readonly aheadDir: string;
  readonly onEngineExit: (reason: string) => void;
  /** A command has survived its kill. Then the supervisor stops the box. */
  readonly onUnkillable: (reason: string) => void;
  /** The writer says that another worker has the box: this worker must end at once. */
  readonly onFenced: () => void;
}

/** @throws RUNTIME_ERROR when the engine cannot be loaded */
export async function createHeldBox(deps: HeldBoxDeps, assignment: Assignment): Promise<HeldBox> {
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
      log.error({ err: error }, 'the writer refuses all changes of this worker');
      deps.onFenced();
    },
  });
  let heldBox: AssignedBox | null = null;
  const driver: Driver = await createDriver(assignment.driver, config, {
    spec: assignment,
    homeDir: boxHome(config.stateDir, boxId),
    imagesDir: paths.imagesDir,
    volumeRoots: config.volumeRoots,
    aheadDir: deps.aheadDir,
    generation: assignment.generation,
    instanceId: assignment.instanceId,
    log,
    onEngineExit: (reason) => heldBox?.engineExited(reason),
  });
  heldBox = new AssignedBox({ deps, assignment, log, link, queue, driver });
  return heldBox;
}

interface Parts {
  readonly deps: HeldBoxDeps;
  readonly assignment: Assignment;
  readonly log: Logger;
  readonly link: Link<WriterContract>;
  readonly queue: CommitQueue;
  readonly driver: Driver;
}

class AssignedBox implements HeldBox {
  readonly boxId: string;
  readonly generation: number;
  readonly #parts: Parts;
  readonly #commands: BoxCommands;
  readonly #terminals: Terminals;
  // A supervisor may die while its request still runs here. The request of its successor then waits for its turn.
  readonly #inTurn = createInTurn();
  #running = false;

  constructor(parts: Parts) {
    const { deps, assignment, driver, log, queue } = parts;
    const { boxId, generation } = assignment;
    const { onUnkillable } = deps;
    this.#parts = parts;
    this.boxId = boxId;
    this.generation = generation;
    this.#terminals = createTerminals(driver, log);
    const needRunning = () => {
      this.#needRunning();
    };
    this.#commands = new BoxCommands(
      { driver, queue, log, boxId, generation, onUnkillable, needRunning },
      deps.config.caps,
    );
  }

  get running(): boolean {
    return this.#running;
  }

  get execCount(): number {
    return this.#commands.count;
  }

  takeSettings({ execs, outputMb, logLevel }: WorkerSettings): void {
    this.#commands.takeCaps({ execs, outputMb });
    this.#parts.log.level = logLevel;
  }

  async figures(): Promise<BoxFigures> {
    const { queue, driver } = this.#parts;
    const engine = this.#running ? await driver.metrics().catch(() => null) : null;
    return {
      unacknowledgedBytes: queue.figures.bytes,
      outputPauses: queue.figures.pauses,
      engine,
      ...agentUseOf(driver),
    };
  }

  async stats(): Promise<BoxStats & { readonly agent?: AgentUse }> {
    this.#needRunning();
    const { driver } = this.#parts;
    return { ...(await driver.stats()), ...agentUseOf(driver) };
  }

  async processes(): Promise<BoxProcess[]> {
    this.#needRunning();
    return listProcesses(this.#parts.driver);
  }

  async signalProcess(pid: number, signal: number): Promise<void> {
    this.#needRunning();
    await signalProcess(this.#parts.driver, pid, signal);
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

  adopt(): Promise<{ running: boolean; execIds: string[]; heldExecs: string[] }> {
    const { driver } = this.#parts;
    return this.#inTurn(async () => {
      this.#running = (await driver.reattach()) === 'running';
      faultPoint('worker.reattach.adopted');
      if (!this.#running) return { running: false, execIds: [], heldExecs: [] };
      return { running: true, execIds: await driver.foundExecs(), heldExecs: (await driver.heldExecs?.()) ?? [] };
    });
  }

  resumeExecs(execs: readonly ResumedExec[]): void {
    this.#commands.resume(execs);
  }

  endStrays(finishedExecs: ReadonlySet<string>, keptExecs: ReadonlySet<string>): Promise<void> {
    return this.#inTurn(async () => {
      await this.#parts.driver.killStrayExecs(finishedExecs, keptExecs);
      faultPoint('worker.reattach.strays-killed');
    });
  }

  exec(order: ExecOrder): Promise<TimedExec> {
    return this.#commands.exec(order);
  }

  cancel(execId: string): Promise<Exec> {
    return this.#commands.cancel(execId);
  }

  signal(execId: string, signal: number): Promise<Exec> {
    return this.#commands.signal(execId, signal);
  }

  async serveStream(operation: StreamOperation, stream: ByteStream): Promise<void> {
    this.#needRunning();
    const { driver, assignment } = this.#parts;
    const files = { driver, workdir: assignment.workdir };
    switch (operation.kind) {
      case 'upload':
        return this.#transfer(() => receiveUpload(files, operation.path, stream, operation));
      case 'download':
        return this.#transfer(() => sendDownload(files, operation.path, stream));
      case 'attach':
        return this.#terminals.serve(operation, stream);
      case 'input':
        return feedInput(await this.#commands.find(operation.execId).handle(), stream);
    }
  }

  /** If the box was stopped during the transfer, the client gets BOX_NOT_RUNNING and not the error that followed. */
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
    await this.#terminals.killAll();
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
    void this.#commands.loseAll(reason).then(() => {
      this.#parts.deps.onEngineExit(reason);
    });
  }

  async #endWith(message: string, endEngine: () => Promise<void>): Promise<void> {
    this.#running = false; // From here on, new commands are refused.
    await this.#commands.endWith(message, endEngine, () => this.#terminals.killAll());
  }

  #needRunning(): void {
    if (!this.#running) throw new BoxRunError('BOX_NOT_RUNNING', `box ${this.boxId} is not running`);
  }
}

function agentUseOf({ agentUse }: Driver): { readonly agent?: AgentUse } {
  return agentUse === null ? {} : { agent: agentUse };
}
