// Settings: flags over the environment over defaults, and values that cannot be used are refused by name.
import { describe, expect, it } from 'vitest';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '../../../src/shared/config.ts';

describe('settings', () => {
  it('have defaults for everything', () => {
    const config = loadConfig({}, {});
    expect(config).toMatchObject({
      stateDir: join(homedir(), '.boxrun'),
      dbPath: join(homedir(), '.boxrun/boxrun.db'),
      socketPath: join(homedir(), '.boxrun/boxrun.sock'),
      tcp: { host: '127.0.0.1', port: 9090 },
      driver: 'boxlite', onExit: 'detach', logLevel: 'info', logFormat: 'json', insecureRegistries: [], boxliteRuntimeDir: null,
    });
    expect(config.maxCpu).toBeGreaterThan(0);
    expect(config.maxMemoryMb).toBeGreaterThan(0);
  });

  it('come from the environment', () => {
    const env = {
      BOXRUN_STATE_DIR: '/s', BOXRUN_DB: '/d/x.db', BOXRUN_SOCKET: '/q.sock', BOXRUN_HOST: '::1', BOXRUN_PORT: '0',
      BOXRUN_DRIVER: 'container', BOXRUN_MAX_CPU: '7', BOXRUN_MAX_MEMORY_MB: '512', BOXRUN_WORKERS: '0',
      BOXRUN_ON_EXIT: 'stop', BOXRUN_LOG_LEVEL: 'debug', BOXRUN_LOG_FORMAT: 'pretty', BOXRUN_INSECURE_REGISTRIES: 'a:1,b:2', BOXRUN_ORPHAN_GRACE_MS: '5',
      BOXLITE_RUNTIME_DIR: '/r',
    };
    expect(loadConfig({}, env)).toMatchObject({
      stateDir: '/s', dbPath: '/d/x.db', socketPath: '/q.sock', tcp: { host: '::1', port: 0 }, driver: 'container', maxCpu: 7,
      maxMemoryMb: 512, spareWorkers: 0, onExit: 'stop', logLevel: 'debug', logFormat: 'pretty', insecureRegistries: ['a:1', 'b:2'],
      orphanGraceMs: 5, boxliteRuntimeDir: '/r',
    });
  });

  it('of flags win over those of the environment', () => {
    const env = {
      BOXRUN_STATE_DIR: '/s', BOXRUN_SOCKET: '/q.sock', BOXRUN_HOST: '::1', BOXRUN_PORT: '1', BOXRUN_DRIVER: 'boxlite',
      BOXRUN_WORKERS: '9', BOXRUN_ON_EXIT: 'detach', BOXRUN_LOG_LEVEL: 'warn',
    };
    const flags = {
      stateDir: '/f', host: 'localhost', port: 2, socket: '/f.sock', driver: 'container', workers: 3, onExit: 'stop', logLevel: 'trace',
    };
    expect(loadConfig(flags, env)).toMatchObject({
      stateDir: '/f', tcp: { host: 'localhost', port: 2 }, socketPath: '/f.sock', driver: 'container', spareWorkers: 3,
      onExit: 'stop', logLevel: 'trace',
    });
  });

  it('put database and socket into the state directory unless they are named', () => {
    expect(loadConfig({ stateDir: '/f' }, {})).toMatchObject({ dbPath: '/f/boxrun.db', socketPath: '/f/boxrun.sock' });
  });

  it('of --socket alone leave no TCP address; with --host or --port both are there', () => {
    expect(loadConfig({ socket: '/f.sock' }, { BOXRUN_PORT: '5' }).tcp).toBeNull();
    expect(loadConfig({ socket: '/f.sock', port: 7 }, {})).toMatchObject({ socketPath: '/f.sock', tcp: { host: '127.0.0.1', port: 7 } });
    expect(loadConfig({ socket: '/f.sock', host: '::1' }, {})).toMatchObject({ tcp: { host: '::1', port: 9090 } });
  });

  it('are absolute paths, whatever was given', () => {
    expect(loadConfig({ stateDir: 'here' }, { BOXRUN_DB: 'x.db' })).toMatchObject({
      stateDir: join(process.cwd(), 'here'), dbPath: join(process.cwd(), 'x.db'),
    });
  });

  it('survive the way to another process as JSON', () => {
    const config = loadConfig({}, { BOXRUN_STATE_DIR: '/s' });
    expect(JSON.parse(JSON.stringify(config))).toEqual(config);
  });

  const bad: [string, string][] = [
    ['BOXRUN_PORT', '65536'], ['BOXRUN_PORT', '-1'], ['BOXRUN_PORT', 'http'], ['BOXRUN_PORT', '80.5'], ['BOXRUN_MAX_CPU', '0'],
    ['BOXRUN_MAX_CPU', 'many'], ['BOXRUN_MAX_MEMORY_MB', '1GB'], ['BOXRUN_WORKERS', '-1'], ['BOXRUN_DRIVER', 'docker'],
    ['BOXRUN_ORPHAN_GRACE_MS', 'soon'],
  ];
  it.each(bad)('refuse %s=%s by name', (name, value) => {
    const words = name === 'BOXRUN_DRIVER' ? value : name;
    expect(() => loadConfig({}, { [name]: value })).toThrow(
      expect.objectContaining({ code: 'VALIDATION_ERROR', message: expect.stringContaining(words) as unknown }) as Error,
    );
  });

  it('refuse an unknown choice for --driver and --on-exit', () => {
    expect(() => loadConfig({ driver: 'docker' }, {})).toThrow(expect.objectContaining({ code: 'VALIDATION_ERROR' }) as Error);
    expect(() => loadConfig({ onExit: 'explode' }, {})).toThrow(expect.objectContaining({ code: 'VALIDATION_ERROR' }) as Error);
  });

  it('refuse a port and a number of workers out of range in flags too', () => {
    for (const flags of [{ port: 65_536 }, { port: NaN }, { port: -1 }, { workers: -1 }, { workers: 0.5 }]) {
      expect(() => loadConfig(flags, {}), JSON.stringify(flags)).toThrow();
    }
  });

  it('refuse a log format that does not exist', () => {
    expect(() => loadConfig({ logFormat: 'xml' }, {})).toThrow(/xml/);
  });

  it('refuse a log level that does not exist', () => {
    expect(() => loadConfig({ logLevel: 'loud' }, {})).toThrow();
  });

  it('take an empty variable for one that is not set', () => {
    const names = ['BOXRUN_STATE_DIR', 'BOXRUN_DB', 'BOXRUN_SOCKET', 'BOXRUN_HOST', 'BOXRUN_DRIVER', 'BOXRUN_ON_EXIT', 'BOXRUN_LOG_LEVEL', 'BOXLITE_RUNTIME_DIR'];
    const empty = Object.fromEntries(names.map((name) => [name, '']));
    expect(loadConfig({}, empty)).toEqual(loadConfig({}, {}));
  });

  it('allow no grace that a timer cannot wait', () => {
    expect(() => loadConfig({}, { BOXRUN_ORPHAN_GRACE_MS: String(2 ** 31) })).toThrow();
  });
});
