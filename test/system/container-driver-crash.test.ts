// Tests what a new driver finds in a real box after a worker, the init of the box, the OCI runtime or the network
// process was killed. It takes over the box, or it can remove it, and nothing is left.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { beforeAll, expect, test } from 'vitest';
import { isAlive, killAndWait } from '../../src/shared/process/child-process.ts';
import { newId } from '../../src/shared/ids.ts';
import type { RunState } from '../../src/worker/drivers/container/box/record.ts';
import { bundleFixture } from '../support/runs/bundle.ts';
import { createWithAgent, describeOnHost, execPaths, useBoxes } from '../support/boxes/container-boxes.ts';
import { createDriverHarness, type DriverHarness } from '../support/boxes/driver-harness.ts';
import { expectNoLeaks, findLeaks } from '../support/host/leaks.ts';
import { eventually } from '../support/runs/eventually.ts';

const allBoxes = useBoxes();
const onBothPaths = describeOnHost.each(execPaths);
let fixture = '';
beforeAll(async () => {
  fixture = await bundleFixture(join(import.meta.dirname, '../fixtures/container-holder.ts'));
});

function runState(box: DriverHarness): RunState {
  return JSON.parse(readFileSync(join(box.context.homeDir, 'run', 'state.json'), 'utf8')) as RunState;
}

function leftRunning(box: DriverHarness): string[] {
  return findLeaks({ boxId: box.boxId }).filter((line) => !line.startsWith('directory'));
}

async function argsIn(box: DriverHarness): Promise<string> {
  return (await box.run(['ps', '-o', 'args'])).stdout;
}

onBothPaths('a box with commands started by %s', (_path, create) => {
  const boxes = allBoxes.by(create);
  test.each(['init', 'monitor'] as const)(
    'reports its end once, leaves nothing running, and starts again after its %s was killed',
    async (part) => {
      const box = await boxes.started();
      await box.run(['sh', '-c', 'echo kept > /root/file; sync']);
      const command = await box.exec(['sleep', '1000']);
      process.kill(runState(box)[part].pid, 'SIGKILL');
      expect(await box.engineExit).toContain('ended unexpectedly');
      // The client of the runtime may die before it has reported the exit code of the command.
      expect(await command.exit).toSatisfy(
        (exit) => 'lost' in (exit as object) || (exit as { exitCode: number }).exitCode === 137,
      );
      expect(leftRunning(box)).toEqual([]);
      await expect(box.run(['true'])).rejects.toMatchObject({ code: 'BOX_NOT_RUNNING' });
      await box.start();
      expect((await box.run(['cat', '/root/file'])).stdout).toBe('kept\n');
      await box.driver.stop(0);
      expect(box.engineExits).toHaveLength(1);
    },
  );
});

onBothPaths('a new driver of a box with commands started by %s', (_path, create) => {
  const boxes = allBoxes.by(create);
  test('takes over the running box, keeps or kills its commands, and reports the end of the box', async () => {
    const first = await boxes.started();
    const keep = await first.exec(['sleep', '1111'], { execId: 'exec_keep' });
    const stray = await first.exec(['sh', '-c', 'setsid sleep 2222 & sleep 3333'], { execId: 'exec_stray' });
    await first.driver.close();
    const second = first.successor(create);
    expect(await second.driver.reattach()).toBe('running');
    expect(await argsIn(second)).toMatch(/sleep 1111[^]*sleep 2222|sleep 2222[^]*sleep 1111/);
    await second.driver.killStrayExecs(new Set(['exec_keep']));
    expect(await stray.exit).toEqual({ exitCode: 137 });
    const left = await argsIn(second);
    expect(left).toContain('sleep 1111');
    expect(left).not.toMatch(/sleep [23]/);
    process.kill(runState(second).init.pid, 'SIGKILL');
    expect(await second.engineExit).toContain('ended unexpectedly');
    expect(first.engineExits).toEqual([]);
    expect(await keep.exit).toEqual({ exitCode: 137 });
  });

  test('does not kill the commands that it has started itself as strays', async () => {
    const box = await boxes.started();
    const own = await box.exec(['sh', '-c', 'echo up; sleep 1000']);
    await once(own.stdout, 'data');
    await box.driver.killStrayExecs(new Set());
    expect(await argsIn(box)).toContain('sleep 1000');
    await own.killTree();
  });

  test('reports a box as stopped, and leaves nothing running, when the box ended without a driver', async () => {
    const first = await boxes.started();
    await first.driver.close();
    const { init, monitor } = runState(first);
    await killAndWait(init, 5000, 'a process of the test');
    await expect.poll(() => isAlive(monitor)).toBe(false);
    const second = first.successor(create);
    expect(await second.driver.reattach()).toBe('stopped');
    expect(leftRunning(second)).toEqual([]);
    await second.start();
    expect((await second.run(['echo', 'again'])).stdout).toBe('again\n');
    await second.driver.stop(0);
  });

  test('reports a box as stopped that was never started or is removed', async () => {
    const box = await boxes.created();
    expect(await box.successor(create).driver.reattach()).toBe('stopped');
    await box.driver.remove();
    expect(await box.successor(create).driver.reattach()).toBe('stopped');
  });
});

onBothPaths('after SIGKILL of a worker that starts commands by %s', (_path, create) => {
  const boxes = allBoxes.by(create);
  async function holder(
    until: 'created' | 'started',
    {
      execs = {},
      network = false,
      tellsStages = false,
    }: { execs?: Record<string, readonly string[]>; network?: boolean; tellsStages?: boolean } = {},
  ) {
    const box = await createDriverHarness(create, { imagesDir: boxes.imagesDir(), spec: { network } });
    const { log: _log, onEngineExit: _onEngineExit, ...context } = box.context;
    const orders = join(box.dir, 'orders.json');
    writeFileSync(
      orders,
      JSON.stringify({ context, until, tellsStages, execs, agent: create === createWithAgent ? 'always' : 'off' }),
    );
    const child = spawn(process.execPath, [fixture, orders], { stdio: ['ignore', 'pipe', 'inherit'] });
    const lines = createInterface(child.stdout);
    const kill = async () => {
      child.kill('SIGKILL');
      await once(child, 'exit');
    };
    return { box, said: async () => String(((await once(lines, 'line')) as [string])[0]), kill };
  }

  async function gone(box: DriverHarness): Promise<void> {
    await box.dispose();
    await expectNoLeaks({ boxId: box.boxId, homeDir: box.context.homeDir, instanceId: box.context.instanceId });
  }

  test('a new driver takes over the box and its commands, kills strays, and can remove the whole box', async () => {
    const keep = newId('exec');
    const { box, said, kill } = await holder('started', {
      execs: { [keep]: ['sleep', '1111'], [newId('exec')]: ['sh', '-c', 'setsid sleep 2222 & sleep 3333'] },
    });
    expect(await said()).toBe('holding');
    await kill();
    expect(await box.driver.reattach()).toBe('running');
    expect(await argsIn(box)).toContain('sleep 3333');
    await box.driver.killStrayExecs(new Set([keep]));
    const left = await argsIn(box);
    expect(left).toContain('sleep 1111');
    expect(left).not.toMatch(/sleep [23]/);
    await gone(box);
  });

  test('a removal without taking over leaves nothing, not even the network process', async () => {
    const { box, said, kill } = await holder('started', {
      execs: { [newId('exec')]: ['sleep', '1111'] },
      network: true,
    });
    expect(await said()).toBe('holding');
    await kill();
    expect(leftRunning(box)).not.toEqual([]);
    await gone(box);
  });

  test('at any moment of a start, the box works or can be started, and can be removed', async () => {
    for (let delayMs = 0; delayMs <= 90; delayMs += 10) {
      const { box, said, kill } = await holder('started', { tellsStages: true });
      expect(await said()).toBe('start');
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      await kill();
      const found = await box.driver.reattach();
      if (found === 'stopped') {
        // A tool that the worker was starting may have no mark yet, so the driver cannot find it. It ends by itself.
        await eventually('no process of the box runs', async () => leftRunning(box).length === 0, 30_000);
        await box.start();
      }
      expect((await box.run(['echo', 'up'])).stdout).toBe('up\n');
      await gone(box);
    }
  });

  test('in the middle of a create, a removal leaves nothing', async () => {
    for (let delayMs = 0; delayMs <= 60; delayMs += 20) {
      const { box, kill } = await holder('created');
      await new Promise((resolve) => setTimeout(resolve, 150 + delayMs));
      await kill();
      await gone(box);
    }
  });
});
