// Tests the options that the driver gives to BoxLite, and the specifications that it refuses before BoxLite is called.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BoxSpec } from '../../../src/worker/drivers/driver-contract.ts';
import { boxEnvironment, checkSpec, engineOptions } from '../../../src/worker/drivers/boxlite/box-options.ts';

const spec: BoxSpec = {
  boxId: 'box_aaaaaaaaaaaa',
  image: { kind: 'registry', reference: 'alpine:3.20' },
  cpu: 2,
  memoryMb: 1024,
  diskSizeGb: 8,
  network: false,
  workdir: '/root',
  env: {},
  volumes: [],
};

let dir = '';
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'boxrun-options-'));
  writeFileSync(join(dir, 'file'), '');
});
afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

describe('checking a specification of a box', () => {
  const volume = (guestPath: string, hostPath = tmpdir()) => ({
    host_path: hostPath,
    guest_path: guestPath,
    readonly: true,
  });

  it('accepts what the engine can make', async () => {
    await checkSpec({ ...spec, volumes: [volume('/data'), volume('/other')] });
  });

  it.each([
    ['too little memory', { memoryMb: 64 }, /at least 128 MB/],
    ['half a CPU', { cpu: 1.5 }, /1 to 255 CPUs/],
    ['a volume over the root', { volumes: [volume('/')] }, /cannot be mounted at \//],
    ['a volume over the tools', { volumes: [volume('/.boxrun/')] }, /cannot be mounted at/],
    ['a volume inside the tools', { volumes: [volume('/x/../.boxrun/cg')] }, /cannot be mounted at/],
    ['two volumes at one place', { volumes: [volume('/data'), volume('/data/')] }, /two volumes/],
    ['a volume that does not exist', { volumes: [volume('/data', '/no/such/place')] }, /there is no \/no\/such\/place/],
  ] as const)('refuses %s', async (_name, change, message) => {
    const code = 'volumes' in change && !message.source.includes('there is no') ? 'VALIDATION_ERROR' : 'RUNTIME_ERROR';
    await expect(checkSpec({ ...spec, ...change })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message) as string,
    });
  });

  it('refuses a volume that is a file, with a hint', async () => {
    await expect(checkSpec({ ...spec, volumes: [volume('/data', join(dir, 'file'))] })).rejects.toMatchObject({
      hint: /directory/,
    });
  });
});

it('the environment of a box has no variables that control the engine', () => {
  const env = { BOXLITE_EXECUTOR: 'guest', BOXRUN_TOKEN: 'x', MY_BOXLITE_X: '1', PATH: '/bin' };
  expect(boxEnvironment(env)).toEqual([
    ['MY_BOXLITE_X', '1'],
    ['PATH', '/bin'],
  ]);
});

describe('the options for the engine', () => {
  it('let the box outlive its process, and never start it automatically', () => {
    expect(engineOptions(spec, '/tools')).toMatchObject({ detach: true, autoRemove: false, autoResume: false });
  });

  it('have the full name of the image, or its layout directory', () => {
    expect(engineOptions(spec, '/tools').image).toBe('docker.io/library/alpine:3.20');
    const layout = { kind: 'layout', name: 'base', layoutDir: '/images/base', digest: 'sha256:0' } as const;
    expect(engineOptions({ ...spec, image: layout }, '/tools')).toMatchObject({ rootfsPath: '/images/base' });
  });

  it('mount the tools first, read-only', () => {
    const volumes = [{ host_path: '/h', guest_path: '/g', readonly: false }];
    expect(engineOptions({ ...spec, volumes }, '/tools').volumes).toEqual([
      { hostPath: '/tools', guestPath: '/.boxrun', readOnly: true },
      { hostPath: '/h', guestPath: '/g', readOnly: false },
    ]);
  });

  it('switch the network, and switch off the filter that does not work with volumes', () => {
    expect(engineOptions(spec, '/t')).toMatchObject({
      network: { outbound: { mode: 'disabled' } },
      security: { jailerEnabled: true, seccompEnabled: true },
    });
    expect(engineOptions({ ...spec, network: true }, '/t')).toMatchObject({
      network: { outbound: { mode: 'enabled' } },
    });
    const volumes = [{ host_path: '/h', guest_path: '/g', readonly: false }];
    expect(engineOptions({ ...spec, volumes }, '/t')).toMatchObject({
      security: { jailerEnabled: true, seccompEnabled: false },
    });
  });
});
