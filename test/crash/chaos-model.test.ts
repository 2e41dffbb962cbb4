// Tests the model of the chaos test against a real server: the model must accept every correct behaviour of the server,
// and must report a real violation.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Actor } from '../support/faults/chaos-actor.ts';
import { startCrashServer, type CrashServer } from '../support/servers/crash-server.ts';
import { eventually } from '../support/runs/eventually.ts';
import { createRandom } from '../support/runs/random.ts';

const heldPoint = 'supervisor.create.admitted';
/** Long enough for the create to reach the held point on a busy machine, before its client disconnects. */
const disconnectAfterMs = 2_000;
let faultDir: string;
let server: CrashServer;
let violations: string[];
beforeEach(async () => {
  faultDir = mkdtempSync(join(tmpdir(), 'boxrun-faults-'));
  violations = [];
  server = await startCrashServer({ args: ['--workers', '0'], env: { BOXRUN_FAULT_DIR: faultDir } });
});
afterEach(async () => {
  await server.close();
  rmSync(faultDir, { recursive: true });
});

/**
 * An actor without chance: it does the operations of `kinds` in this order, and always chooses the first box. Its
 * client closes the connection of a create after `disconnectAfterMs`.
 */
function actorOf(kinds: readonly string[], disconnectAfterMs: number): Actor {
  const script = [...kinds];
  return new Actor({
    name: 'actor',
    client: server.client,
    onOperation: () => undefined,
    onViolation: (what) => violations.push(what),
    faults: { anySince: () => false, onBoxSince: () => false },
    random: {
      ...createRandom(1),
      below: () => disconnectAfterMs,
      pick: (values) => (values.every((value) => typeof value === 'string') ? script.shift() : values[0]) as never,
    },
  });
}

/**
 * Waits until there are boxes and all of them run, and returns their names. A create takes its name before its row is
 * there.
 */
async function namesOfRunning(): Promise<(string | null)[]> {
  let boxes: Awaited<ReturnType<typeof server.client.listBoxes>> = [];
  await eventually('every box runs', async () => {
    boxes = await server.client.listBoxes();
    return boxes.length > 0 && boxes.every(({ status }) => status === 'running');
  });
  return boxes.map(({ name }) => name);
}

it('the chaos model accepts that a box appears after its client has gone and a list did not show it', async () => {
  const actor = actorOf(['createAndDisconnect', 'create', 'remove', 'create'], disconnectAfterMs);
  writeFileSync(join(faultDir, `${heldPoint}.armed`), '');
  await actor.act();
  await eventually('the create is held', async () =>
    readdirSync(faultDir).some((name) => name.startsWith(`${heldPoint}.reached`)),
  );
  expect(await server.client.listBoxes()).toEqual([]);
  writeFileSync(join(faultDir, `${heldPoint}.go`), '');
  await actor.act(); // The server refuses this create, because the box of the first create has the name now.
  await actor.expectTruth();
  expect(await namesOfRunning()).toEqual(['actor-0']);
  await actor.act();
  await actor.act();
  await actor.expectTruth();
  expect(await namesOfRunning()).toEqual(['actor-0']);
  expect(violations).toEqual([]);
});

it('the chaos model reports a violation when a box of another client has the name of an actor', async () => {
  await server.client.create({ image: 'base', name: 'actor-0', cpu: 1, memory_mb: 64, disk_size_gb: 1 });
  await actorOf(['create'], 0).act();
  expect(violations).toEqual([expect.stringContaining('NAME_ALREADY_EXISTS')]);
});
