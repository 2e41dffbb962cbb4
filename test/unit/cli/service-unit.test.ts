// The unit file of `boxrun service install`: systemd accepts it, and it never contains a secret.
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { serveCommand } from '../../../src/cli/commands/serve.ts';
import {
  isOwnUnit,
  renderUnit,
  serviceArguments,
  serviceEnvironment,
  unitName,
} from '../../../src/cli/server/service-unit.ts';

const strange = `a b"c\\d%e$f'g`;
const unitFor = (owner: 'system' | 'user') =>
  renderUnit({
    owner,
    command: [process.execPath, '/opt/boxrun/dist/cli.js', 'serve', '--socket', `/run/${strange}`],
    environment: { BOXRUN_STATE_DIR: `/var/${strange}` },
  });

describe('the unit file', () => {
  it.each(['system', 'user'] as const)('is accepted by systemd-analyze (%s)', async (owner) => {
    const directory = await mkdtemp(join(tmpdir(), 'boxrun-unit-'));
    try {
      await writeFile(join(directory, unitName), unitFor(owner));
      // systemd needs a directory that exists only during a login of the user.
      const env = { ...process.env, XDG_RUNTIME_DIR: directory };
      const { stdout, stderr } = await promisify(execFile)(
        'systemd-analyze',
        [`--${owner}`, 'verify', '--man=no', join(directory, unitName)],
        { env },
      );
      expect(`${stdout}${stderr}`).toBe('');
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('quotes spaces, quotes, percent and dollar signs, which have a meaning for systemd', () => {
    expect(unitFor('system')).toContain(String.raw`Environment="BOXRUN_STATE_DIR=/var/a b\"c\\d%%e$f'g"`);
    expect(unitFor('system')).toContain(String.raw`"--socket" "/run/a b\"c\\d%%e$$f'g"`);
  });

  it('is recognised as written by boxrun, and another file is not', () => {
    expect(isOwnUnit(unitFor('user'))).toBe(true);
    expect(isOwnUnit('[Service]\nExecStart=/usr/bin/boxrun serve\n')).toBe(false);
  });

  it('sets OOMScoreAdjust only for a service of the host', () => {
    expect(unitFor('system')).toContain('OOMScoreAdjust=-500');
    expect(unitFor('user')).not.toContain('OOMScoreAdjust');
  });
});

describe('options of serve in the unit', () => {
  it('get absolute paths', () => {
    expect(serviceArguments(['--port', '9', '--token-file=secret', '--volume-root', '/srv'], serveCommand)).toEqual([
      ...['--port', '9', '--token-file', resolve('secret'), '--volume-root', '/srv'],
    ]);
  });

  it.each([[['--prot', '9']], [['serve']], [['--port']]])('are refused: %j', (words) => {
    expect(() => serviceArguments(words, serveCommand)).toThrow();
  });

  it('hold no token', () => {
    expect(() => serviceArguments(['--token', 'sesame'], serveCommand)).toThrow('no token may stand in it');
    expect(() => serviceEnvironment('/s', { BOXRUN_TOKEN: 'sesame' })).toThrow('everybody can read a unit file');
  });
});

it('the service gets the settings of this shell, and no other variables', () => {
  const env = { HOME: '/root', BOXRUN_DRIVER: 'container', BOXRUN_DB: 'x.db', BOXRUN_PORT: '', BOXRUN_STATE_DIR: 'no' };
  expect(serviceEnvironment('/state', env)).toEqual({
    BOXRUN_STATE_DIR: '/state',
    BOXRUN_DRIVER: 'container',
    BOXRUN_DB: resolve('x.db'),
  });
});
