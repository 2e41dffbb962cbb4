// Makes boxes of the container driver for the system and security tests. A test file has one images directory. After
// each test, or with 'file' after the last one, every box is removed, and the test fails if something of it is left.
import { rmSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe } from 'vitest';
import type { CreateDriver } from '../../../src/worker/drivers/driver-contract.ts';
import { createContainerDriver } from '../../../src/worker/drivers/container/container-driver.ts';
import { probeContainerHost } from '../../../src/worker/drivers/container/host/host-probe.ts';
import { createDriverHarness, temporaryDir, type DriverHarness, type HarnessOverrides } from './driver-harness.ts';
import { expectNoLeaks } from '../host/leaks.ts';

/** On a host without the necessary rights these tests are skipped, and the reason is printed. In CI they fail. */
const host = await probeContainerHost();
if (!host.ok) {
  const reason = `no containers on this host: ${host.problems.join('; ')}`;
  if (process.env['CI'] !== undefined) throw new Error(reason);
  console.warn(`skipped, ${reason}`);
}
export const describeOnHost = host.ok ? describe : describe.skip;

/** Creates a driver that starts each command with the OCI runtime. */
export const createContainer: CreateDriver = (context) =>
  createContainerDriver(context, { insecureRegistries: [], agent: 'off' });
/** Creates a driver that starts every command with the agent in the box. */
export const createWithAgent: CreateDriver = (context) =>
  createContainerDriver(context, { insecureRegistries: [], agent: 'always' });
/** The two ways to start a command. A test of both runs once for each. */
export const execPaths = [
  ['the OCI runtime', createContainer],
  ['the agent', createWithAgent],
] as const;

export interface BoxFactory {
  readonly imagesDir: () => string;
  /** Creates a box and does not start it. */
  created(overrides?: HarnessOverrides, create?: CreateDriver): Promise<DriverHarness>;
  /** Creates and starts a box. */
  started(overrides?: HarnessOverrides, create?: CreateDriver): Promise<DriverHarness>;
  /** Removes a box now, and fails if anything of it is left. */
  dispose(box: DriverHarness): Promise<void>;
  /** Returns a factory with another default driver. */
  by(create: CreateDriver): BoxFactory;
}

/** Call it once at the top of a test file. It removes all boxes after each test, or with 'file' after the last test. */
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
