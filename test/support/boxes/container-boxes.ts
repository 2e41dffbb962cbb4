// Boxes of the container driver for system tests: one images directory per test file, every box removed and looked for
// after each test.
import { rmSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe } from 'vitest';
import type { CreateDriver } from '../../../src/worker/drivers/driver-contract.ts';
import { createContainerDriver } from '../../../src/worker/drivers/container/container-driver.ts';
import { probeContainerHost } from '../../../src/worker/drivers/container/host/host-probe.ts';
import { createDriverHarness, temporaryDir, type DriverHarness, type HarnessOverrides } from './driver-harness.ts';
import { expectNoLeaks } from '../host/leaks.ts';

/**
 * Unprivileged hosts cannot run these tests at all: there they are skipped, and the reason is printed. CI must be able
 * to run them.
 */
const host = await probeContainerHost();
if (!host.ok) {
  const reason = `no containers on this host: ${host.problems.join('; ')}`;
  if (process.env['CI'] !== undefined) throw new Error(reason);
  console.warn(`skipped, ${reason}`);
}
export const describeOnHost = host.ok ? describe : describe.skip;

/** The ordinary path: one start of the runtime for each command. */
export const createContainer: CreateDriver = (context) =>
  createContainerDriver(context, { insecureRegistries: [], runner: 'off' });
/** Every command by the runner that stays in the box. */
export const createWithRunner: CreateDriver = (context) =>
  createContainerDriver(context, { insecureRegistries: [], runner: 'always' });
/** What must hold on both. */
export const execPaths = [
  ['the OCI runtime', createContainer],
  ['the runner', createWithRunner],
] as const;

export interface BoxFactory {
  readonly imagesDir: () => string;
  /** A box that exists and is stopped. */
  created(overrides?: HarnessOverrides, create?: CreateDriver): Promise<DriverHarness>;
  /** A box that runs. */
  started(overrides?: HarnessOverrides, create?: CreateDriver): Promise<DriverHarness>;
  /** Removes a box now, and fails if anything of it is left. */
  dispose(box: DriverHarness): Promise<void>;
  /** The same, whose boxes are by another driver where none is named. */
  by(create: CreateDriver): BoxFactory;
}

/**
 * Call once at the top of a test file. Boxes are removed after each test, or where tests share them, after the last
 * one.
 */
export function useBoxes(lifetime: 'test' | 'file' = 'test'): BoxFactory {
  let imagesDir = '';
  const boxes = new Set<DriverHarness>();
  const dispose = async (box: DriverHarness) => {
    boxes.delete(box);
    await box.dispose();
    await expectNoLeaks({ boxId: box.boxId, homeDir: box.context.homeDir, instanceId: box.context.instanceId });
  };
  const created = async (overrides: HarnessOverrides, create: CreateDriver) => {
    const box = await createDriverHarness(create, { imagesDir, ...overrides });
    boxes.add(box);
    await box.create();
    return box;
  };
  beforeAll(async () => {
    imagesDir = await temporaryDir('box-images');
  });
  const disposeAll = async () => {
    for (const box of [...boxes]) await dispose(box);
  };
  if (lifetime === 'test') afterEach(disposeAll);
  afterAll(async () => {
    await disposeAll();
    rmSync(imagesDir, { recursive: true, force: true });
  });
  const factory = (usual: CreateDriver): BoxFactory => ({
    imagesDir: () => imagesDir,
    created: (overrides = {}, create = usual) => created(overrides, create),
    async started(overrides = {}, create = usual) {
      const box = await created(overrides, create);
      await box.start();
      return box;
    },
    dispose,
    by: factory,
  });
  return factory(createContainer);
}
