// Tests a real server in a state directory whose path is too long for a Unix socket. Commands work, and clients find
// the server.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BoxRun } from '../../src/sdk/index.ts';
import { findServer } from '../../src/sdk/node.ts';
import { cliBundle, startServer, type TestServer } from '../support/servers/server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ stateDirName: 'a directory with a long name/'.repeat(8) });
});
afterAll(async () => {
  await server.close();
});

describe('in a state directory with a path of over two hundred bytes', () => {
  it('the command line runs a command', async () => {
    expect(server.stateDir.length).toBeGreaterThan(200);
    const { stdout } = await promisify(execFile)(process.execPath, [cliBundle, 'run', 'base', '--', 'echo', 'hi'], {
      env: server.env,
    });
    expect(stdout).toBe('hi\n');
  });

  it('the SDK finds the server through the environment', async () => {
    await using client = new BoxRun(findServer(server.env));
    expect(await client.info()).toHaveProperty('max_cpu');
  });
});
