// Tests how settings are read. Flags win over the environment, the environment wins over defaults, and a bad value is
// refused with its name.
import { describe, expect, it } from 'vitest';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { capTable, capVariable } from '../../../src/shared/settings/caps.ts';
import { loadConfig, takeToken } from '../../../src/shared/settings/config.ts';
import { isLoopback } from '../../../src/shared/settings/loopback.ts';

describe('settings', () => {
  it('have defaults for everything', () => {
    const config = loadConfig({}, {});
    expect(config).toMatchObject({
      stateDir: join(homedir(), '.boxrun'),
      dbPath: join(homedir(), '.boxrun/boxrun.db'),
      socketPath: join(homedir(), '.boxrun/boxrun.sock'),
      tcp: { host: '127.0.0.1', port: 9090 },
      driver: 'boxlite',
      onExit: 'detach',
      logLevel: 'info',
      logFormat: 'json',
      insecureRegistries: [],
      boxliteRuntimeDir: null,
      agent: 'auto',
    });
    expect(config.maxCpu).toBeGreaterThan(0);
    expect(config.maxMemoryMb).toBeGreaterThan(0);
  });

  it('are read from the environment', () => {
    const env = {
      BOXRUN_STATE_DIR: '/s',
      BOXRUN_DB: '/d/x.db',
      BOXRUN_SOCKET: '/q.sock',
      BOXRUN_HOST: '::1',
      BOXRUN_PORT: '0',
      BOXRUN_DRIVER: 'container',
      BOXRUN_MAX_CPU: '7',
      BOXRUN_MAX_MEMORY_MB: '512',
      BOXRUN_WORKERS: '0:9',
      BOXRUN_GATEWAYS: '3',
      BOXRUN_ON_EXIT: 'stop',
      BOXRUN_LOG_LEVEL: 'debug',
      BOXRUN_LOG_FORMAT: 'pretty',
      BOXRUN_INSECURE_REGISTRIES: 'a:1,b:2',
      BOXRUN_ORPHAN_GRACE_MS: '5',
      BOXRUN_RECONCILE_MS: '6',
      BOXRUN_SILENCE_MS: '7000',
      BOXLITE_RUNTIME_DIR: '/r',
      BOXRUN_RUNNER: 'off',
      BOXRUN_SSE_HEARTBEAT_MS: '50',
    };
    expect(loadConfig({}, env)).toMatchObject({
      stateDir: '/s',
      dbPath: '/d/x.db',
      socketPath: '/q.sock',
      tcp: { host: '::1', port: 0 },
      driver: 'container',
      maxCpu: 7,
      maxMemoryMb: 512,
      spareWorkers: 0,
      maxWorkers: 9,
      gateways: 3,
      onExit: 'stop',
      logLevel: 'debug',
      logFormat: 'pretty',
      insecureRegistries: ['a:1', 'b:2'],
      orphanGraceMs: 5,
      reconcileEveryMs: 6,
      silenceMs: 7000,
      boxliteRuntimeDir: '/r',
      agent: 'off',
      sseHeartbeatMs: 50,
    });
  });

  it('from flags win over settings from the environment', () => {
    const env = {
      BOXRUN_STATE_DIR: '/s',
      BOXRUN_SOCKET: '/q.sock',
      BOXRUN_HOST: '::1',
      BOXRUN_PORT: '1',
      BOXRUN_DRIVER: 'boxlite',
      BOXRUN_WORKERS: '9',
      BOXRUN_ON_EXIT: 'detach',
      BOXRUN_LOG_LEVEL: 'warn',
    };
    const flags = {
      stateDir: '/f',
      host: 'localhost',
      port: 2,
      socket: '/f.sock',
      driver: 'container',
      workers: '3',
      onExit: 'stop',
      logLevel: 'trace',
    };
    expect(loadConfig(flags, env)).toMatchObject({
      stateDir: '/f',
      tcp: { host: 'localhost', port: 2 },
      socketPath: '/f.sock',
      driver: 'container',
      spareWorkers: 3,
      maxWorkers: null,
      onExit: 'stop',
      logLevel: 'trace',
    });
  });

  it('put database and socket into the state directory unless they have their own path', () => {
    expect(loadConfig({ stateDir: '/f' }, {})).toMatchObject({ dbPath: '/f/boxrun.db', socketPath: '/f/boxrun.sock' });
  });

  it('allow several gateways only with a TCP port, and at most 64', () => {
    expect(loadConfig({}, {}).gateways).toBe(1);
    expect(loadConfig({ gateways: 2, socket: '/f.sock', port: 7 }, {}).gateways).toBe(2);
    expect(() => loadConfig({ gateways: 2, socket: '/f.sock' }, {})).toThrow('2 gateways share a TCP port');
    for (const gateways of [0, 65, 1.5])
      expect(() => loadConfig({ gateways }, {})).toThrow(`--gateways is '${gateways}'`);
  });

  it('with only --socket have no TCP address, and with --host or --port they have both', () => {
    expect(loadConfig({ socket: '/f.sock' }, { BOXRUN_PORT: '5' }).tcp).toBeNull();
    expect(loadConfig({ socket: '/f.sock', port: 7 }, {})).toMatchObject({
      socketPath: '/f.sock',
      tcp: { host: '127.0.0.1', port: 7 },
    });
    expect(loadConfig({ socket: '/f.sock', host: '::1' }, {})).toMatchObject({ tcp: { host: '::1', port: 9090 } });
  });

  it('turn relative paths into absolute ones', () => {
    expect(loadConfig({ stateDir: 'here' }, { BOXRUN_DB: 'x.db' })).toMatchObject({
      stateDir: join(process.cwd(), 'here'),
      dbPath: join(process.cwd(), 'x.db'),
    });
  });

  it('are unchanged after they have been sent to another process as JSON', () => {
    const config = loadConfig({}, { BOXRUN_STATE_DIR: '/s' });
    expect(JSON.parse(JSON.stringify(config))).toEqual(config);
  });

  const bad: [string, string][] = [
    ['BOXRUN_PORT', '65536'],
    ['BOXRUN_PORT', '-1'],
    ['BOXRUN_PORT', 'http'],
    ['BOXRUN_PORT', '80.5'],
    ['BOXRUN_MAX_CPU', '0'],
    ['BOXRUN_MAX_CPU', 'many'],
    ['BOXRUN_MAX_MEMORY_MB', '1GB'],
    ['BOXRUN_WORKERS', '-1'],
    ['BOXRUN_DRIVER', 'docker'],
    ['BOXRUN_ORPHAN_GRACE_MS', 'soon'],
    ['BOXRUN_SSE_HEARTBEAT_MS', '15001'],
    ['BOXRUN_SSE_HEARTBEAT_MS', '9'],
  ];
  it.each(bad)('with %s=%s are refused with the name', (name, value) => {
    const words = name === 'BOXRUN_DRIVER' ? value : name;
    expect(() => loadConfig({}, { [name]: value })).toThrow(
      expect.objectContaining({
        code: 'VALIDATION_ERROR',
        message: expect.stringContaining(words) as unknown,
      }) as Error,
    );
  });

  it('are refused with an unknown choice for --driver or --on-exit', () => {
    expect(() => loadConfig({ driver: 'docker' }, {})).toThrow(
      expect.objectContaining({ code: 'VALIDATION_ERROR' }) as Error,
    );
    expect(() => loadConfig({ onExit: 'explode' }, {})).toThrow(
      expect.objectContaining({ code: 'VALIDATION_ERROR' }) as Error,
    );
  });

  it('are refused with a port or a number of workers out of range in a flag', () => {
    for (const flags of [
      { port: 65_536 },
      { port: NaN },
      { port: -1 },
      { workers: '-1' },
      { workers: '0.5' },
      { workers: '' },
      { workers: '3:2' },
      { workers: '0:0' },
      { workers: '1:' },
      { workers: '1:2:3' },
    ]) {
      expect(() => loadConfig(flags, {}), JSON.stringify(flags)).toThrow();
    }
  });

  it('are refused with an unknown log format', () => {
    expect(() => loadConfig({ logFormat: 'xml' }, {})).toThrow(/xml/);
  });

  it('are refused with an unknown log level', () => {
    expect(() => loadConfig({ logLevel: 'loud' }, {})).toThrow();
  });

  it('treat an empty variable as not set', () => {
    const names = [
      'BOXRUN_STATE_DIR',
      'BOXRUN_DB',
      'BOXRUN_SOCKET',
      'BOXRUN_HOST',
      'BOXRUN_DRIVER',
      'BOXRUN_ON_EXIT',
      'BOXRUN_LOG_LEVEL',
      'BOXLITE_RUNTIME_DIR',
    ];
    const empty = Object.fromEntries(names.map((name) => [name, '']));
    expect(loadConfig({}, empty)).toEqual(loadConfig({}, {}));
  });

  it('are refused with a grace that is too long for a timer', () => {
    expect(() => loadConfig({}, { BOXRUN_ORPHAN_GRACE_MS: String(2 ** 31) })).toThrow();
  });
});

describe('the caps', () => {
  it('each have a default, a variable, and a flag that wins', () => {
    expect(loadConfig({}, {}).caps).toEqual({
      bodyMb: 1,
      outputMb: 4096,
      execs: 512,
      boxes: 1000,
      streams: 1000,
      retentionHours: 0,
      freeDiskMb: 256,
    });
    for (const [name, { setting, least }] of Object.entries(capTable)) {
      const variable = capVariable(setting);
      expect(loadConfig({}, { [variable]: `${least + 1}` }).caps).toMatchObject({ [name]: least + 1 });
      expect(loadConfig({ caps: { [setting]: least } }, { [variable]: `${least + 1}` }).caps).toMatchObject({
        [name]: least,
      });
      expect(() => loadConfig({}, { [variable]: `${least - 1}` })).toThrow(variable);
      expect(() => loadConfig({ caps: { [setting]: least - 1 } }, {})).toThrow(`--${setting}`);
    }
  });
});

describe('allowed names and directories', () => {
  it('are read from flags, or else from the environment', () => {
    const env = { BOXRUN_ALLOW_HOSTS: 'A.example,[fd00::1]', BOXRUN_VOLUME_ROOTS: '/srv:/data/x/' };
    expect(loadConfig({ allowedHosts: [], volumeRoots: [] }, env)).toMatchObject({
      allowedHosts: ['a.example', '[fd00::1]'],
      volumeRoots: ['/srv', '/data/x'],
    });
    expect(loadConfig({ allowedHosts: ['b'], volumeRoots: ['/b'] }, env)).toMatchObject({
      allowedHosts: ['b'],
      volumeRoots: ['/b'],
    });
  });

  it.each(['http://a', 'a:80', 'a/b', '*', 'a b'])('do not include the name %s', (name) => {
    expect(() => loadConfig({ allowedHosts: [name] }, {})).toThrow('--allow-host');
  });
});

describe('the token of a server', () => {
  const good = 'abcdefghijklmnop';

  it('is removed from the environment, so processes that are started later do not get it', () => {
    const env = { BOXRUN_TOKEN: good, A: '1' };
    expect(takeToken({}, env)).toBe(good);
    expect(env).toEqual({ A: '1' });
    expect(takeToken({}, {})).toBeNull();
    expect(takeToken({ token: good }, { BOXRUN_TOKEN: 'another-one-of-16' })).toBe(good);
  });

  it('can be read from a file, without its newline', () => {
    const dir = mkdtempSync(join(tmpdir(), 'boxrun-test-token-'));
    writeFileSync(join(dir, 'token'), `${good}\n`);
    expect(takeToken({ tokenFile: join(dir, 'token') }, {})).toBe(good);
    rmSync(dir, { recursive: true });
    expect(() => takeToken({ tokenFile: join(dir, 'token') }, {})).toThrow('cannot be read');
    expect(() => takeToken({ token: good, tokenFile: '/x' }, {})).toThrow('both');
  });

  it.each(['short', 'with blanks in the middle', 'ümlauts-are-no-ascii', `${good}\r\nX: y`, 'x'.repeat(513)])(
    'is refused if it is %j, without being repeated in the message',
    (token) => {
      const refuse = () => takeToken({ token }, {});
      expect(refuse).toThrow('16 to 512 visible ASCII');
      expect(refuse).not.toThrow(token);
    },
  );
});

it('isLoopback is true only for addresses that only this host can reach', () => {
  for (const host of ['127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1', 'localhost', 'LocalHost'])
    expect([host, isLoopback(host)]).toEqual([host, true]);
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '128.0.0.1', 'fd00::1', 'localhost.example', 'box', ''])
    expect([host, isLoopback(host)]).toEqual([host, false]);
});
