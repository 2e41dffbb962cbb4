// Brings up the engine of one box through its worker: prepares the image, then creates or starts the engine.
// `createEngine` and `startEngine` end soon after a cancel: a worker that goes on is killed.
import { faultPoint } from '../../shared/faults/fault.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { Stopwatch } from '../../shared/observe/stage-times.ts';
import type { BoxRow } from '../../shared/store/rows.ts';
import type { Turns } from '../../shared/waiting/in-turn.ts';
import { imageKey, type ImageGate } from '../admission/image-gate.ts';
import type { WorkerHandle } from './worker-handle.ts';
import { killIfCancelHangs } from './worker-watch.ts';

export type ReportProgress = (stage: string, message: string) => void;

export interface BringUpDeps {
  readonly gate: ImageGate;
  /** Limits how many boxes come up or are removed at once: both keep the host busy. */
  readonly turns: Turns;
  readonly log: Logger;
}

export interface BringUpOptions {
  readonly progress: ReportProgress;
  /** Cancels the work. */
  readonly signal: AbortSignal;
  /** Gets the time of each stage. */
  readonly stopwatch: Stopwatch;
}

/** @throws CANCELED when `signal` aborts; UNAVAILABLE when the worker is lost; any error of the image or the engine */
export async function createEngine(
  { gate, turns, log }: BringUpDeps,
  worker: WorkerHandle,
  row: BoxRow,
  { progress, signal, stopwatch }: BringUpOptions,
): Promise<{ engineId: string }> {
  const { peer } = worker;
  const endWatch = killIfCancelHangs(worker, signal, log);
  return gate
    .pass(
      imageKey(row.driver, row.image_source),
      async () => {
        const options = requestOptions(progress, signal);
        await stopwatch.time('image', () => peer.request('prepareImage', {}, options));
        faultPoint('supervisor.create.image-ready');
        const askedAt = performance.now();
        return turns.take(async () => {
          stopwatch.times['turn'] = performance.now() - askedAt;
          const created = await stopwatch.time('create', () => peer.request('create', {}, options));
          faultPoint('supervisor.create.made');
          await stopwatch.time('start', () => peer.request('start', {}, options));
          faultPoint('supervisor.create.started');
          return created;
        }, signal);
      },
      signal,
    )
    .finally(endWatch);
}

/** Starts an engine that was created earlier. @throws like `createEngine` */
export async function startEngine(
  { gate, turns, log }: BringUpDeps,
  worker: WorkerHandle,
  row: BoxRow,
  { progress, signal, stopwatch }: BringUpOptions,
): Promise<void> {
  const { peer } = worker;
  const endWatch = killIfCancelHangs(worker, signal, log);
  await gate
    .pass(
      imageKey(row.driver, row.image_source),
      async () => {
        const options = requestOptions(progress, signal);
        await stopwatch.time('image', () => peer.request('prepareImage', {}, options));
        await turns.take(() => stopwatch.time('start', () => peer.request('start', {}, options)), signal);
      },
      signal,
    )
    .finally(endWatch);
}

/** After a cancel the request still waits for the worker's answer. Only then is it safe to remove what it has made. */
function requestOptions(onProgress: ReportProgress, signal: AbortSignal) {
  return { onProgress, signal, waitAfterAbort: true };
}
