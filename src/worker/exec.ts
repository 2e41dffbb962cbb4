// One command in a box, from its row to its exit event. Owns its state; reads both streams from the first byte on.
// Order, always: the row, then every output event, then the exit event with the finished row.
import type { Readable } from 'node:stream';
import type { Exec } from '../shared/api.ts';
import { sleep, timestamp, withDeadline } from '../shared/clock.ts';
import type { ExecOrder } from '../shared/contracts/worker.ts';
import { errorText } from '../shared/errors.ts';
import { newId } from '../shared/ids.ts';
import { exitEventData, execTable, finishedStatus, isFinished, type ExecCause, type ExecOutcome, type ExecState } from '../shared/lifecycle/exec.ts';
import { step } from '../shared/lifecycle/machine.ts';
import { limits } from '../shared/limits.ts';
import type { Logger } from '../shared/log.ts';
import type { CommitQueue } from './commit-queue.ts';
import type { Driver, ExecExit, ExecHandle } from './drivers/driver.ts';
import { createOutputBuffer, type OutputStream } from './output-buffer.ts';

export interface ExecDeps {
  readonly driver: Pick<Driver, 'exec'>;
  readonly queue: CommitQueue;
  readonly log: Logger;
  readonly boxId: string;
  readonly generation: number;
}

/** Why a command is killed, which decides how it ends. */
export type KillReason =
  | { readonly kind: 'canceled' }
  | { readonly kind: 'timeout'; readonly timeoutMs: number }
  | { readonly kind: 'box'; readonly message: string };

export interface RunningExec {
  readonly id: string;
  /** The row as clients see it now. */
  exec(): Exec;
  /** Resolves when the row is committed and the command runs (or has ended already); rejects when the engine cannot start it. */
  readonly started: Promise<void>;
  /** Resolves when the exit event and the finished row are committed. Never rejects. */
  readonly finished: Promise<void>;
  /** Kills the whole tree; resolves when it has ended. */
  kill(reason: KillReason): Promise<void>;
  /** Ends it at once as failed: the engine is gone. */
  lose(reason: string): void;
}

export function createExec(deps: ExecDeps, order: ExecOrder): RunningExec {
  const { queue, boxId, generation } = deps;
  const id = newId('exec');
  const log = deps.log.child({ execId: id });
  const row: Exec = {
    id, box_id: boxId, status: 'running', cmd: order.cmd, env: order.env, workdir: order.workdir,
    timeout_ms: order.timeoutMs, exit_code: null, error_message: null, created_at: timestamp(), finished_at: null,
  };
  let state: ExecState = 'starting';
  let handle: ExecHandle | null = null;
  let killReason: KillReason | null = null;
  let killing: Promise<void> | null = null;
  let bytesRead = 0;
  let heldBack = 0;
  let wasHeldBack = false;
  let announceFinished: () => void = () => undefined;
  const finished = new Promise<void>((resolve) => {
    announceFinished = resolve;
  });
  const output = createOutputBuffer((event) => {
    queue.push({ op: 'event', execId: id, event, at: timestamp() });
  });

  function transition(cause: ExecCause): void {
    const next = step(execTable, state, cause);
    if (next === null) throw new Error(`exec ${id}: ${cause} in state ${state}`);
    log.debug({ from: state, to: next, cause }, 'exec changes state');
    state = next;
  }

  function end(cause: ExecCause, outcome: ExecOutcome): void {
    if (isFinished(state)) return;
    transition(cause);
    clearTimeout(timeoutTimer);
    const status = finishedStatus(outcome);
    const at = timestamp();
    output.end(exitEventData(outcome));
    const { exitCode, errorMessage } = outcome;
    queue.push({ op: 'finish', execId: id, status, exitCode, errorMessage, at });
    void queue.committed().then(() => {
      Object.assign(row, { status, exit_code: exitCode, error_message: errorMessage, finished_at: at });
      announceFinished();
    });
  }

  async function start(): Promise<void> {
    queue.push({ op: 'insert', exec: { ...row, generation } });
    const committed = queue.committed();
    const { cmd, workdir } = order;
    const env = order.env ?? {};
    const starting = (async () => deps.driver.exec({ execId: id, cmd, env, workdir, user: null, tty: null, stdin: false }))();
    try {
      handle = await withDeadline(starting, limits.execStartTimeoutMs, 'starting the command');
    } catch (error) {
      // A start that comes through after its deadline must not leave a command behind.
      void starting.then((late) => late.killTree()).catch(() => undefined);
      const errorMessage = errorText(error);
      end('start-failed', { exitCode: null, errorMessage, canceled: killReason?.kind === 'canceled' });
      throw error;
    }
    if (!isFinished(state)) {
      if (state === 'starting') transition('started');
      else killTree(handle).catch(logFailedKill);
      void supervise(handle);
    }
    await committed;
  }

  async function supervise(running: ExecHandle): Promise<void> {
    const pumps = [pump(running.stdout, 'stdout'), pump(running.stderr, 'stderr')];
    const exit = await running.exit;
    await drain(pumps.map((each) => each.ended), takeProgress);
    if (killing !== null) await killing.catch(() => undefined);
    for (const each of pumps) each.discard();
    end('lost' in exit ? 'engine-lost' : 'exited', outcomeOf(exit, killReason));
  }

  function pump(stream: Readable, name: OutputStream) {
    let discarding = false;
    const ended = (async () => {
      for await (const piece of stream) {
        if (discarding || isFinished(state)) continue; // Background children may go on writing until the box stops.
        bytesRead += (piece as Buffer).length;
        output.write(name, piece as Buffer);
        if (queue.hasRoom) continue;
        heldBack++;
        await queue.room();
        heldBack--;
        wasHeldBack = true;
      }
    })().catch((error: unknown) => {
      log.warn({ err: error, stream: name }, 'reading output failed');
    });
    return { ended, discard: () => { discarding = true; } };
  }

  /** What was read since the last call, and whether the writer's slowness kept us from reading. */
  function takeProgress(): Progress {
    const progress = { bytes: bytesRead, heldBack: wasHeldBack || heldBack > 0 };
    bytesRead = 0;
    wasHeldBack = false;
    return progress;
  }

  async function killTree(running: ExecHandle): Promise<void> {
    killing ??= withDeadline(running.killTree(), limits.killTimeoutMs, 'killing the command').catch((error: unknown) => {
      killing = null; // It may be asked for again.
      throw error;
    });
    await killing;
  }

  function logFailedKill(error: unknown): void {
    log.error({ err: error }, 'a command could not be killed');
  }

  async function kill(reason: KillReason): Promise<void> {
    if (isFinished(state)) {
      await finished;
      return;
    }
    killReason ??= reason;
    if (state !== 'killing') transition('kill-asked');
    if (handle !== null) await killTree(handle);
    await finished;
  }

  const started = start();
  started.catch(() => undefined); // The caller of `started` sees it; a stop of the box may come without one.
  const { timeoutMs } = order;
  const timeoutTimer = timeoutMs === null ? undefined : setTimeout(() => {
    kill({ kind: 'timeout', timeoutMs }).catch(logFailedKill);
  }, timeoutMs);

  return {
    id,
    exec: () => ({ ...row }),
    started,
    finished,
    kill,
    lose(reason) {
      end('engine-lost', { exitCode: null, errorMessage: reason, canceled: false });
    },
  };
}

/** What came out of the leader's exit and the reason for which it was killed, if it was. */
function outcomeOf(exit: ExecExit, killed: KillReason | null): ExecOutcome {
  const exitCode = 'exitCode' in exit ? exit.exitCode : null;
  const lost = 'lost' in exit ? exit.lost : null;
  if (killed === null) return { exitCode, errorMessage: lost, canceled: false };
  if (killed.kind === 'canceled') return { exitCode, errorMessage: 'canceled', canceled: true };
  const errorMessage = killed.kind === 'timeout' ? `timed out after ${killed.timeoutMs} ms` : killed.message;
  return { exitCode, errorMessage, canceled: false };
}

interface Progress {
  readonly bytes: number;
  readonly heldBack: boolean;
}

/**
 * Waits for the streams to end after the leader's exit. Background children may hold the pipes: they get
 * limits.exitDrainMs; longer only while output comes in a bulk that must be the leader's own, still queued. Time in which
 * the writer kept us from reading does not count.
 */
async function drain(ended: readonly Promise<void>[], takeProgress: () => Progress): Promise<void> {
  const allEnded = Promise.all(ended).then(() => true);
  let leftMs: number = limits.exitDrainBusyMs;
  takeProgress();
  while (leftMs > 0) {
    const pause = new AbortController();
    const done = await Promise.race([allEnded, sleep(limits.exitDrainMs, pause.signal).then(() => false)]);
    pause.abort();
    if (done) return;
    // On a busy host the pause may be over before anything was read: what is there now is read first.
    await nextTurns(2);
    const { bytes, heldBack } = takeProgress();
    if (heldBack) continue;
    if (bytes < limits.exitDrainBusyBytes) return;
    leftMs -= limits.exitDrainMs;
  }
}

async function nextTurns(turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}
