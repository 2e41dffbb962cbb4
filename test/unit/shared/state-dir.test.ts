// Tests where the parts of a state directory are, for paths that are short enough for a Unix socket and for paths that
// are too long.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { loadConfig, serverAddress } from '../../../src/shared/settings/config.ts';
import { streamSocketPath } from '../../../src/shared/contracts/worker.ts';
import { newId } from '../../../src/shared/ids.ts';
import { listenAt } from '../../../src/shared/ipc/socket.ts';
import { limits } from '../../../src/shared/limits.ts';
import { defaultSocket } from '../../../src/shared/settings/socket-place.ts';
import { boxHome, makeStateDirectories, statePaths } from '../../../src/shared/settings/state-dir.ts';

const long = '/s/'.padEnd(limits.socketPathBytesMax, 'long');
let made: string[] = [];
afterEach(() => {
  for (const path of made) rmSync(path, { recursive: true, force: true });
  made = [];
});

/** A state directory whose path has `length` bytes. */
function directory(length: number): string {
  const top = mkdtempSync(join(tmpdir(), 'boxrun-state-'));
  made.push(top);
  return join(top, 'x'.repeat(length - top.length - 1));
}

describe('a state directory', () => {
  it('contains all its parts', () => {
    for (const path of [...Object.values(statePaths('/s')), boxHome('/s', 'box_x'), defaultSocket('/s')]) {
      expect(path.startsWith('/s/'), path).toBe(true);
    }
  });

  it('is private', () => {
    const stateDir = directory(45);
    makeStateDirectories(stateDir);
    for (const path of [stateDir, statePaths(stateDir).workersDir]) expect(statSync(path).mode & 0o777).toBe(0o700);
  });
});

describe('a state directory with a long path', () => {
  it('has its sockets and the files beside them elsewhere, and nothing else', () => {
    const { runDir, workersDir, supervisorSocket, writerSocket, keeperFile, writerFile, ...others } = statePaths(long);
    for (const path of [
      runDir,
      workersDir,
      supervisorSocket,
      writerSocket,
      keeperFile,
      writerFile,
      defaultSocket(long),
    ]) {
      expect(path.startsWith(`/tmp/boxrun-${process.getuid?.()}/`), path).toBe(true);
    }
    for (const path of Object.values(others)) expect(path.startsWith(`${long}/`), path).toBe(true);
  });

  it('has a run directory of its own', () => {
    expect(statePaths(long).runDir).not.toBe(statePaths(`${long}2`).runDir);
  });

  it('has its socket where a client looks for it', () => {
    expect(serverAddress(loadConfig({ stateDir: long }, {}), {})).toEqual({ socketPath: defaultSocket(long) });
  });

  it.each([40, 54, 55, 56, 57, 58, 59, 60, 61, 90, 107, 200])(
    'has sockets that can be bound if its path has %i bytes',
    async (length) => {
      const stateDir = directory(length);
      makeStateDirectories(stateDir);
      const { workersDir, runDir } = statePaths(stateDir);
      made.push(runDir);
      for (const path of [defaultSocket(stateDir), streamSocketPath(workersDir, newId('wrk'))]) {
        const server = createServer();
        await listenAt(server, path);
        expect(statSync(path).isSocket()).toBe(true);
        await new Promise((resolve) => server.close(resolve));
      }
    },
  );

  it('is refused if others may write in the directory of its sockets', () => {
    const stateDir = directory(200);
    const shared = dirname(statePaths(stateDir).runDir);
    mkdirSync(shared, { recursive: true, mode: 0o700 });
    chmodSync(shared, 0o777);
    try {
      expect(() => makeStateDirectories(stateDir)).toThrow(/not this user's alone/);
    } finally {
      chmodSync(shared, 0o700);
    }
  });
});
