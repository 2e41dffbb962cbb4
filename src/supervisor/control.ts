// The handlers of all requests except those of figures/watch-handlers.ts. Each one finds its box, checks the rules that
// concern more than one box, and calls the box. The gateway removes the box of a run. This file does it when the client
// leaves during the create, or when the gateway is gone.
import type { ExecBody } from '../shared/api.ts';
import { timestamp } from '../shared/waiting/clock.ts';
import { type Config } from '../shared/settings/config.ts';
import { statePaths } from '../shared/settings/state-dir.ts';
import type { SupervisorContract } from '../shared/contracts/supervisor.ts';
import type { ExecOrder } from '../shared/contracts/worker.ts';
import type { KeyClaim, WriterContract } from '../shared/contracts/writer.ts';
import { BoxRunError } from '../shared/errors.ts';
import { faultPoint } from '../shared/faults/fault.ts';
import { newId } from '../shared/ids.ts';
import { resolveImage } from '../shared/images/store.ts';
import type { ParamsOf, ResultOf } from '../shared/ipc/contract.ts';
import type { ClientPeer, Handlers, RequestContext } from '../shared/ipc/server.ts';
import type { Link } from '../shared/ipc/link.ts';
import type { Logger } from '../shared/observe/log.ts';
import { createStopwatch } from '../shared/observe/stage-times.ts';
import type { Reader } from '../shared/store/reader.ts';
import type { BoxRow } from '../shared/store/rows.ts';
import { checkCpuLimit } from '../shared/boxes/cpu-limit.ts';
import { checkUlimits } from '../shared/boxes/ulimits.ts';
import type { SupervisedBox } from './boxes/box.ts';
import type { BoxRegistry } from './boxes/box-registry.ts';
import type { DiskWatch } from './boxes/disk-watch.ts';
import { createDiskFloor } from './admission/disk-floor.ts';
import { createDetailChanges } from './boxes/box-details.ts';
import { createKnownRequests } from './boxes/known-requests.ts';
import type { Quota } from './admission/quota.ts';
import { createUiCodes } from './ui-codes.ts';
import { createImagePulls, type ImagePullsDeps } from './admission/image-pulls.ts';
import type { createWatchHandlers } from './figures/watch-handlers.ts';
import { isOutcomeUnknown, retryUntilDone } from './workers/retry.ts';
import { admitVolumes } from './boxes/volumes.ts';

type Gateway = ClientPeer<SupervisorContract>;
type Caller = RequestContext<SupervisorContract>;
type CreateOrder = ParamsOf<SupervisorContract, 'createBox'>;
type TimedBox = ResultOf<SupervisorContract, 'createBox'>;

export interface ControlDeps {
  readonly config: Config;
  readonly registry: BoxRegistry;
  readonly quota: Quota;
  readonly writer: Pick<Link<WriterContract>, 'request'>;
  readonly reader: Pick<Reader, 'exec' | 'knownKey'>;
  readonly log: Logger;
  readonly disk: Pick<DiskWatch, 'releaseReserve'>;
  readonly gate: ImagePullsDeps['gate'];
  readonly takePullWorker: ImagePullsDeps['takeWorker'];
  /** Creates the object for a box whose row is committed. */
  readonly supervise: (row: BoxRow) => SupervisedBox;
}

export interface Control {
  readonly handlers: Omit<Handlers<SupervisorContract>, keyof ReturnType<typeof createWatchHandlers>>;
  /** Removes the boxes of runs that this gateway has requested. Called when the gateway is gone. */
  removeRunsOf(gateway: Gateway): void;
}

export function createControl(deps: ControlDeps): Control {
  const { config, registry, reader } = deps;
  const uiCodes = createUiCodes();
  const diskFloor = createDiskFloor(config.stateDir, config.caps.freeDiskMb);
  const known = createKnownRequests({ registry, reader });
  const changeDetails = createDetailChanges(registry);
  const pullImage = createImagePulls({ ...deps, takeWorker: deps.takePullWorker });
  const runs = createRuns(deps, async (claim) => {
    known.refuseSecondRun(claim);
    await diskFloor.check();
  });

  function createBox(order: CreateOrder, { progress }: Caller): Promise<TimedBox> {
    return known.boxOnce(order.claim, async () => {
      const stopwatch = createStopwatch();
      await diskFloor.check();
      const box = await stopwatch.time('admit', () => admit(deps, order));
      return { ...(await box.create(progress, stopwatch)), timings: stopwatch.times };
    });
  }

  const handlers: Control['handlers'] = {
    createBox: (order, caller) => (order.ephemeral ? runs.create(order, caller) : createBox(order, caller)),
    async startBox({ box }, { progress }) {
      const stopwatch = createStopwatch();
      return { ...(await registry.find(box).start(progress, stopwatch)), timings: stopwatch.times };
    },
    stopBox: ({ box, graceMs }) => registry.find(box).stop(graceMs),
    async restartBox({ box, graceMs }, { progress }) {
      const stopwatch = createStopwatch();
      return { ...(await registry.find(box).restart(graceMs, progress, stopwatch)), timings: stopwatch.times };
    },
    boxStats: ({ box }) => registry.find(box).stats(),
    boxProcesses: ({ box }) => registry.find(box).processes(),
    boxPorts: ({ box, ...wait }, { signal }) => registry.find(box).ports(wait, signal),
    async signalProcess({ box, pid, signal }) {
      await registry.find(box).signalProcess(pid, signal);
      return null;
    },
    updateBox: ({ box, body }) => changeDetails(registry.find(box), body),
    async removeBox({ box, force, graceMs }) {
      await deps.disk.releaseReserve();
      await registry.find(box).remove(force, graceMs);
      return null;
    },
    startExec({ box, body, claim }, { requestId }) {
      const target = registry.find(box);
      return known.execOnce(target.id, claim, async (ownClaim) => {
        const stopwatch = createStopwatch();
        await diskFloor.check();
        faultPoint('supervisor.exec.passing');
        const exec = await stopwatch.time('worker', () => target.startExec(orderOf(body, ownClaim, requestId)));
        faultPoint('supervisor.exec.started');
        return { ...exec, timings: { ...stopwatch.times, ...exec.timings } };
      });
    },
    async cancelExec({ box, execId }) {
      const target = boxWithRunning(deps, box, execId);
      faultPoint('supervisor.cancel.passing');
      return target.cancelExec(execId).catch((error: unknown) => {
        // The command ran when its row was read. If the worker does not know it now, it has ended since.
        const hasEnded = error instanceof BoxRunError && error.code === 'EXEC_NOT_FOUND';
        throw hasEnded ? alreadyFinished(execId, 'finished') : error;
      });
    },
    async signalExec({ box, execId, signal }) {
      return boxWithRunning(deps, box, execId).signalExec(execId, signal);
    },
    issueUiCode: ({ purpose }) => ({ code: uiCodes.issue(purpose) }),
    redeemUiCode: ({ code, purpose }) => ({ valid: uiCodes.redeem(code, purpose) }),
    openStream: ({ box, operation }) => registry.find(box).openStream(operation),
    async pullImage({ image }, caller) {
      await diskFloor.check();
      return { image: await pullImage(image, caller) };
    },
    async collectGarbage({ olderThanS }) {
      await deps.disk.releaseReserve();
      return { removed: await collectGarbage(deps, olderThanS) };
    },
  };

  return { handlers, removeRunsOf: runs.removeRunsOf };
}

/**
 * Creates the boxes of runs. The gateway removes them. They are removed here when the client leaves during the create,
 * or when the gateway is gone.
 * @param check throws when the run must not begin
 */
function createRuns(deps: ControlDeps, check: (claim: CreateOrder['claim']) => Promise<void>) {
  const boxesByGateway = new Map<Gateway, Set<SupervisedBox>>();

  async function create(order: CreateOrder, { peer, progress, signal }: Caller): Promise<TimedBox> {
    await check(order.claim);
    const box = await admit(deps, order);
    faultPoint('supervisor.run.admitted');
    const boxes = boxesByGateway.get(peer) ?? new Set();
    for (const earlier of boxes) if (earlier.state === 'removed') boxes.delete(earlier);
    boxesByGateway.set(peer, boxes.add(box));
    const created = box.create(progress);
    // When the client is gone, it no longer waits for the image, and it will not request the removal of the box.
    const onAbort = () => {
      removeRun(box);
    };
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    return created.finally(() => {
      signal.removeEventListener('abort', onAbort);
    });
  }

  function removeRunsOf(gateway: Gateway): void {
    for (const box of boxesByGateway.get(gateway) ?? []) removeRun(box);
    boxesByGateway.delete(gateway);
  }

  function removeRun(box: SupervisedBox): void {
    if (box.state === 'removed') return;
    faultPoint('supervisor.run.caller-gone');
    box.remove(true).catch((error: unknown) => {
      // The create failed, and the rollback has removed the box.
      if (error instanceof BoxRunError && error.code === 'BOX_NOT_FOUND') return;
      deps.log.error({ err: error, boxId: box.id }, 'removing the box of a run whose client is gone failed');
    });
  }

  return { create, removeRunsOf };
}

/** The box in which the command runs. @throws BOX_NOT_FOUND, EXEC_NOT_FOUND, EXEC_ALREADY_FINISHED */
function boxWithRunning({ registry, reader }: ControlDeps, box: string, execId: string): SupervisedBox {
  const target = registry.find(box);
  const exec = reader.exec(target.id, execId);
  if (exec === null) throw new BoxRunError('EXEC_NOT_FOUND', `box ${box} has no command ${execId}`);
  if (exec.status !== 'running') throw alreadyFinished(execId, exec.status);
  return target;
}

/**
 * Turns the request for a box into a committed row. The place, the name and the quota are reserved before anything is
 * written, and all of them are given back if the request fails.
 * @throws RESOURCE_EXCEEDED, NAME_ALREADY_EXISTS, VALIDATION_ERROR, FORBIDDEN, UNAVAILABLE, and errors of the image
 */
async function admit(deps: ControlDeps, { body, ephemeral, claim }: CreateOrder): Promise<SupervisedBox> {
  const { registry, quota, config } = deps;
  const id = newId('box');
  const name = body.name ?? null;
  registry.claimPlace(id);
  try {
    if (name !== null) registry.claimName(name, id);
    quota.reserve(id, body.cpu, body.memory_mb);
    checkUlimits(body.ulimits ?? [], config.driver);
    checkCpuLimit(body, config.driver);
    const volumes = await admitVolumes(body, config);
    const source = await resolveImage(statePaths(config.stateDir).imagesDir, body.image);
    const row: BoxRow = {
      id,
      name,
      status: 'creating',
      state: 'creating',
      image: source.kind === 'registry' ? source.reference : source.name,
      cpu: body.cpu,
      memory_mb: body.memory_mb,
      disk_size_gb: body.disk_size_gb,
      network: body.network,
      workdir: body.workdir,
      env: body.env ?? null,
      volumes,
      boxlite_id: null,
      error_code: null,
      error_message: null,
      created_at: timestamp(),
      started_at: null,
      stopped_at: null,
      generation: 1,
      ephemeral,
      driver: config.driver,
      image_source: source,
      id_block: config.driver === 'container' ? registry.claimIdBlock(id) : null,
      labels: body.labels ?? null,
      ulimits: body.ulimits ?? null,
      stop_grace_s: body.stop_grace_s ?? null,
      cpu_limit: body.cpu_limit ?? null,
    };
    faultPoint('supervisor.create.admitted');
    await deps.writer.request('insertBox', { box: row, ...(claim === undefined ? {} : { claim }) }, { resend: true });
    faultPoint('supervisor.create.inserted');
    const box = deps.supervise(row);
    registry.add(box);
    return box;
  } catch (error) {
    quota.release(id);
    registry.releasePlace(id);
    if (isOutcomeUnknown(error)) {
      if (name !== null) registry.markNameUncertain(name, id);
      void removeUnacknowledged(deps, id, name);
    } else if (name !== null) {
      registry.releaseName(name, id);
    }
    throw error;
  }
}

/**
 * Removes a row that the writer has not acknowledged: it may still be committed. The removal goes over the same
 * connection as the row, so the writer cannot handle it before the row. Then the name can be given back.
 */
async function removeUnacknowledged(
  { writer, registry, log }: ControlDeps,
  boxId: string,
  name: string | null,
): Promise<void> {
  await retryUntilDone(() => writer.request('removeBox', { boxId }, { resend: true })).catch((error: unknown) => {
    log.error({ err: error, boxId }, 'the row of a box that was not created cannot be removed');
  });
  if (name !== null) registry.releaseName(name, boxId);
}

/**
 * Removes the boxes that have not run for at least `olderThanS` seconds.
 * @returns how many boxes it has removed
 */
async function collectGarbage({ registry }: ControlDeps, olderThanS: number): Promise<number> {
  const before = Date.now() - olderThanS * 1000;
  const idle = registry.all().filter(({ state, row }) => {
    const since = Date.parse(row.stopped_at ?? row.created_at);
    return (state === 'stopped' || state === 'failed' || state === 'stuck') && since <= before;
  });
  faultPoint('supervisor.gc.chosen');
  let removed = 0;
  for (const box of idle) {
    // The removal fails if another client has started or removed the box meanwhile. Then the box does not count.
    const isRemoved = await box.remove(false).then(
      () => true,
      () => false,
    );
    if (isRemoved) removed++;
    faultPoint('supervisor.gc.removed-one');
  }
  return removed;
}

function orderOf(body: ExecBody, claim: KeyClaim | undefined, requestId: string | null): ExecOrder {
  return {
    cmd: body.cmd,
    env: body.env ?? null,
    workdir: body.workdir ?? null,
    timeoutMs: body.timeout_ms ?? null,
    user: body.user ?? null,
    tty:
      body.tty === true
        ? { cols: body.cols ?? 80, rows: body.rows ?? 24, term: body.env?.['TERM'] ?? 'xterm-256color' }
        : null,
    stdin: body.stdin === true || body.detachable === true,
    ...(body.detachable === true ? { detachable: true } : {}),
    ...(body.internal === true ? { internal: true } : {}),
    ...(claim === undefined ? {} : { claim }),
    ...(requestId === null ? {} : { requestId }),
  };
}

function alreadyFinished(execId: string, status: string): BoxRunError {
  return new BoxRunError('EXEC_ALREADY_FINISHED', `command ${execId} has ended already: ${status}`);
}
