// The probe of micro-VMs on this host: it boots one. A /dev/kvm that exists and can be opened proves nothing. It leaves
// no process and no home behind: if a probe was killed, the next probe removes both. The base image, the tools and the
// template that it made stay in the images directory for later boxes.
import { access, constants, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { processIdentity } from '../../../../shared/process/child-process.ts';
import { withDeadline } from '../../../../shared/waiting/clock.ts';
import { BoxRunError, toBoxRunError } from '../../../../shared/errors.ts';
import { ensureBaseImage } from '../../../../shared/images/base.ts';
import { createLogger } from '../../../../shared/observe/log.ts';
import type { Driver } from '../../driver-contract.ts';
import { createBoxliteDriver, type BoxliteOptions } from '../boxlite-driver.ts';
import { bootHint } from '../engine-errors.ts';
import { removeHome } from '../home/host-files.ts';
import { killVmProcesses } from '../home/vm-processes.ts';

const kvmDevice = '/dev/kvm';
const probeTimeoutMs = 60_000;
const homePrefix = 'boxlite-probe-';

/**
 * Boots a small VM of the base image, runs a command in it, and removes it. Never throws.
 * @param imagesDir the directory of images; the home of the VM is in it during the probe
 */
export async function probeBoxliteHost(
  imagesDir: string,
  options: BoxliteOptions,
): Promise<{ ok: boolean; problem: string | null }> {
  try {
    await checkDevice();
    await mkdir(imagesDir, { recursive: true });
    await removeStale(imagesDir);
    await withDeadline(tryBox(imagesDir, options), probeTimeoutMs, 'booting a small VM');
    return { ok: true, problem: null };
  } catch (error) {
    const { message, hint } = toBoxRunError(error);
    return { ok: false, problem: `${message}: ${hint ?? bootHint}` };
  }
}

async function checkDevice(): Promise<void> {
  try {
    await access(kvmDevice, constants.R_OK | constants.W_OK);
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new BoxRunError(
      'RUNTIME_ERROR',
      isMissing ? `there is no ${kvmDevice}` : `${kvmDevice} cannot be opened by this user`,
      {
        hint: isMissing ? bootHint : `add the user to the group of ${kvmDevice}; \`--driver container\` works without`,
        cause: error,
      },
    );
  }
}

async function tryBox(imagesDir: string, options: BoxliteOptions): Promise<void> {
  const image = await ensureBaseImage(imagesDir);
  const driver = createBoxliteDriver(
    {
      spec: {
        boxId: 'probe',
        image: { kind: 'layout', name: 'base', ...image },
        cpu: 1,
        memoryMb: 256,
        diskSizeGb: 1,
        network: false,
        workdir: '/',
        env: {},
        volumes: [],
      },
      homeDir: join(imagesDir, `${homePrefix}${process.pid}`),
      imagesDir,
      generation: 1,
      instanceId: 'probe',
      log: createLogger('probe', { logLevel: 'error', logFormat: 'json' }),
      volumeRoots: [],
      onEngineExit: () => undefined,
    },
    options,
  );
  try {
    await runOnce(driver);
  } finally {
    await driver.remove();
  }
}

async function runOnce(driver: Driver): Promise<void> {
  const { signal } = new AbortController();
  await driver.create(() => undefined, signal);
  await driver.start(() => undefined, signal);
  const handle = await driver.exec({
    execId: 'probe',
    cmd: ['true'],
    env: {},
    workdir: null,
    user: null,
    tty: null,
    stdin: false,
  });
  handle.stdout.resume();
  handle.stderr.resume();
  const exit = await handle.exit;
  if ('exitCode' in exit && exit.exitCode === 0) return;
  throw new BoxRunError('RUNTIME_ERROR', `a command in the VM ended with ${JSON.stringify(exit)}`);
}

/** Removes the homes of probes whose process has ended. */
async function removeStale(imagesDir: string): Promise<void> {
  for (const name of await readdir(imagesDir)) {
    if (!name.startsWith(homePrefix)) continue;
    const owner = await processIdentity(Number(name.slice(homePrefix.length)));
    if (owner !== null && owner.pid !== process.pid) continue;
    await killVmProcesses(join(imagesDir, name));
    await removeHome(join(imagesDir, name));
  }
}
