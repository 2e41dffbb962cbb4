// Tests the pull of an image without a box, from a real registry: by HTTP, the SDK and the command line. Also tests the
// removal of an imported image through the server.
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { statePaths } from '../../src/shared/settings/state-dir.ts';
import { limits } from '../../src/shared/limits.ts';
import { makeLayout, makeSampleTars, type SampleImage } from '../support/boxes/image-files.ts';
import { registryInstalled, startRegistry, type TestRegistry } from '../support/boxes/registry.ts';
import { eventually } from '../support/runs/eventually.ts';
import { processesOf } from '../support/host/processes.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

// `scripts/setup.sh --test` installs the registry. Without it these tests are skipped, but in CI they fail.
const describeWithRegistry = registryInstalled || process.env['CI'] !== undefined ? describe : describe.skip;
let directory: string;
let sample: SampleImage;
let registry: TestRegistry | null = null;
let server: TestServer;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'boxrun-pull-'));
  sample = await makeSampleTars(directory);
  if (registryInstalled) registry = await startRegistry(directory);
  const env = registry === null ? {} : { BOXRUN_INSECURE_REGISTRIES: registry.host };
  server = await startServer({ env });
});
afterAll(async () => {
  await server.close();
  await registry?.stop();
  await rm(directory, { recursive: true, force: true });
});

function boxrun(args: readonly string[]) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, ['--', cliBundle, ...args], { env: server.env }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

async function push(name: string): Promise<string> {
  const layout = await makeLayout(join(directory, name.replace(/\W/g, '-')), sample.rootfsTar, { config: {} });
  registry?.push(layout, name);
  return `${registry?.host ?? ''}/${name}`;
}

const homes = () => readdir(statePaths(server.stateDir).boxesDir);
const busyWorkers = async () =>
  (await processesOf(server.stateDir)).filter(({ role, box }) => role === 'worker' && box !== 'spare');

/** A registry that takes connections and never answers. */
async function silentRegistry() {
  const sockets = new Set<Socket>();
  const listening = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  }).listen(0, '127.0.0.1');
  await once(listening, 'listening');
  return {
    image: `127.0.0.1:${(listening.address() as AddressInfo).port}/hangs:1`,
    asked: () => sockets.size,
    close() {
      for (const socket of sockets) socket.destroy();
      listening.close();
    },
  };
}

describeWithRegistry('an image that was pulled', () => {
  it('is ready for the next box, which does not ask the registry, and the pull leaves no box and no worker', async () => {
    const image = await push('team/tools:1');
    const steps: string[] = [];
    const pulled = await server.client.pullImage(image, { onProgress: ({ stage }) => steps.push(stage) });
    expect(pulled).toEqual({ image });
    expect(new Set(steps)).toEqual(new Set(['pull', 'unpack']));
    expect(await homes()).toEqual([]);
    await eventually('the worker of the pull has ended', async () => (await busyWorkers()).length === 0);
    const asked = registry?.requests('/team/tools/').length;
    const box = await server.client.create({ image, cpu: 1, memory_mb: 64 });
    expect((await server.client.exec(box.id, ['cat', '/etc/marker'])).stdout).toBe('sample\n');
    expect(registry?.requests('/team/tools/')).toHaveLength(asked ?? -1);
    await server.client.removeBox(box.id, { force: true });
  });

  it('is named by boxrun pull, with and without --json, and a second pull does not ask the registry', async () => {
    const image = await push('team/named:1');
    expect(await boxrun(['pull', image])).toMatchObject({ code: 0, stdout: `Ready: ${image}\n` });
    const asked = registry?.requests('/team/named/').length;
    const again = await boxrun(['images', 'pull', '--json', '-q', image]);
    expect([again.code, JSON.parse(again.stdout), again.stderr]).toEqual([0, { image }, '']);
    expect(registry?.requests('/team/named/')).toHaveLength(asked ?? -1);
  });

  it('may be missing in the registry: that is one line, and by HTTP IMAGE_PULL_FAILED', async () => {
    const image = `${registry?.host ?? ''}/no/such:1`;
    const { code, stderr } = await boxrun(['pull', image]);
    expect(code).toBe(1);
    expect(stderr.split('\n').filter((line) => line.startsWith('Error:'))).toEqual([
      `Error: [IMAGE_PULL_FAILED] cannot pull ${image}: no such image`,
    ]);
    const answer = await server.call({ method: 'POST', path: '/v1/images', body: { image } });
    expect([answer.status, answer.json.code]).toEqual([400, 'IMAGE_PULL_FAILED']);
  });
});

it('a pull ends when its client leaves, and leaves nothing behind', async () => {
  const silent = await silentRegistry();
  const leaving = new AbortController();
  const pull = server.client.pullImage(silent.image, { signal: leaving.signal });
  await eventually('the registry is asked', async () => silent.asked() > 0);
  leaving.abort();
  await expect(pull).rejects.toMatchObject({ code: 'CANCELED' });
  await eventually('the worker of the pull has ended', async () => (await busyWorkers()).length === 0, 20_000);
  expect(await homes()).toEqual([]);
  silent.close();
});

it(`more than ${limits.imagePullsMax} pulls at once are refused with TOO_MANY_REQUESTS`, async () => {
  const silent = await silentRegistry();
  const leaving = new AbortController();
  const pulls = Array.from({ length: limits.imagePullsMax + 1 }, () =>
    server.client.pullImage(silent.image, { signal: leaving.signal }).catch((error: unknown) => error),
  );
  // The others wait for the registry, so the refused one is the first to end.
  expect(await Promise.race(pulls)).toMatchObject({ code: 'TOO_MANY_REQUESTS' });
  const answer = await server.call({ method: 'POST', path: '/v1/images', body: { image: silent.image } });
  expect([answer.status, answer.json.code]).toEqual([429, 'TOO_MANY_REQUESTS']);
  leaving.abort();
  await Promise.all(pulls);
  await eventually('the workers of the pulls have ended', async () => (await busyWorkers()).length === 0, 20_000);
  silent.close();
});

it('an imported image is listed and removed through the server, also with a slash in its name', async () => {
  expect((await boxrun(['images', 'import', 'team/mine', sample.rootfsTar])).code).toBe(0);
  expect((await boxrun(['images', '-q'])).stdout).toContain('team/mine:latest\n');
  expect((await boxrun(['rmi', 'team/mine'])).stdout).toBe('Removed: team/mine\n');
  await expect(server.client.removeImage('team/mine')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  const answer = await server.call({ method: 'DELETE', path: '/v1/images/team%2Fmine' });
  expect([answer.status, answer.json.code]).toEqual([404, 'NOT_FOUND']);
});
