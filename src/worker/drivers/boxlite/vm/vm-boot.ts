// The boot of a VM, until it answers. If the boot fails, no process of the VM is left. The first boot of a box also
// makes its disk; for the first box of an image the engine unpacks the image, too. Both happen inside its start.
// After the first boot, files of the home are kept as a template for later boxes of the image.
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { sleep, withDeadline } from '../../../../shared/waiting/clock.ts';
import { BoxRunError, errorText } from '../../../../shared/errors.ts';
import { limits } from '../../../../shared/limits.ts';
import type { AgentMode } from '../../../../shared/settings/config.ts';
import type { DriverContext, ReportProgress } from '../../driver-contract.ts';
import type { BoxHome } from '../home/box-home.ts';
import { checkSpec } from '../box-options.ts';
import { diagnose } from './diagnosis.ts';
import type { EngineBox } from '../engine.ts';
import { engineError, isNotRunningError } from '../engine-errors.ts';
import { prepareTools } from '../home/host-files.ts';
import { takeOverVm, type LiveVm } from './live-vm.ts';

export interface BootOptions {
  readonly context: DriverContext;
  readonly home: BoxHome;
  readonly agentMode: AgentMode;
  readonly onLost: (vm: LiveVm, reason: string) => void;
  readonly progress: ReportProgress;
  readonly signal: AbortSignal;
}

const setUpMs = 20_000;
const stopMs = 5_000;
const handleWaitMs = 3_000;
const handleRetryMs = 50;

/** @throws RUNTIME_ERROR, TIMEOUT, CANCELED; then no process of the VM is left */
export async function bootBox({ context, home, agentMode, onLost, progress, signal }: BootOptions): Promise<LiveVm> {
  signal.throwIfAborted();
  const box = await home.box();
  await checkSpec(context.spec);
  await prepareTools(context.imagesDir);
  await home.killLeftovers('before a start');
  const boxDir = home.boxDir(box.id);
  // diagnosis.ts reads this record. That of an earlier end would be taken for the end of this VM.
  await rm(join(boxDir, 'exit.previous'), { force: true });
  const isFirst = (await box.info()).startedAt === undefined;
  if (isFirst) progress('unpack', 'preparing the disk from the image');
  else progress('start', 'booting the VM');
  try {
    const started = await startVm(home, isFirst ? limits.imagePrepareTimeoutMs : limits.boxStartTimeoutMs, signal);
    progress('start', 'the VM is up');
    const live = await takeOverVm({
      ...{ context, home, box: started, setUpTimeoutMs: setUpMs, isAdopted: false, agentMode, onLost },
    });
    if (isFirst) await home.keepTemplate();
    return live;
  } catch (error) {
    const { reason, logs } = await diagnose(boxDir);
    context.log.error({ err: error, engineId: box.id, reason, ...logs }, 'the VM did not start');
    await withDeadline(box.stop(), stopMs, 'stopping the VM').catch(() => undefined);
    await home.killLeftovers('after a failed start');
    // Only this message of the engine says nothing by itself, so only it gets the reason.
    throw engineError(error, 'starting the box', /failed to start/.test(errorText(error)) ? reason : null);
  }
}

async function startVm(home: BoxHome, timeoutMs: number, signal: AbortSignal): Promise<EngineBox> {
  const canceled = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(new BoxRunError('CANCELED', 'starting the box was canceled')), {
      once: true,
    });
  });
  let isWanted = true;
  const booting = startEngineBox(home, () => isWanted);
  // The engine cannot cancel a start. If the VM comes up after the deadline or the cancel, it is killed.
  booting
    .then(() => (isWanted ? undefined : home.killLeftovers('after a start that was given up')))
    .catch(() => undefined);
  try {
    return await withDeadline(Promise.race([booting, canceled]), timeoutMs, 'starting the VM');
  } catch (error) {
    isWanted = false;
    throw error;
  }
}

/**
 * Starts the VM. For a short time after a VM has ended by itself, the engine still returns its old handle: then it
 * retries.
 */
async function startEngineBox(home: BoxHome, isWanted: () => boolean): Promise<EngineBox> {
  const deadline = Date.now() + handleWaitMs;
  for (;;) {
    const box = await home.box();
    try {
      await box.start();
      return box;
    } catch (error) {
      if (!isNotRunningError(error) || Date.now() > deadline || !isWanted()) throw error;
      await sleep(handleRetryMs);
    }
  }
}
