// Tests a real server on the database of another edition. Its boxes and their output are there. A box whose disk is not
// in this state directory cannot start, and the error says what to do.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collect } from '../support/servers/crash-server.ts';
import { writeOtherEdition } from '../support/api/other-edition.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

let directory: string;
let server: TestServer;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'boxrun-other-'));
  writeOtherEdition(join(directory, 'boxrun.db'));
  server = await startServer({ env: { BOXRUN_DB: join(directory, 'boxrun.db') } });
});
afterAll(async () => {
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

describe('a server on the database of another edition', () => {
  it('shows its boxes as stopped, and shows their output', async () => {
    const box = await server.client.getBox('web');
    expect(box).toMatchObject({ status: 'stopped', image: 'alpine:latest', env: { COLOUR: 'blue' } });
    const { stdout, stderr, exit } = await collect(server.client, { id: 'exec_failed000000', box_id: box.id });
    expect({ stdout, stderr, code: exit.exitCode }).toEqual({ stdout: 'one two', stderr: 'grün', code: 3 });
  });

  it('refuses to start such a box, and says that its disk belongs to the other edition', async () => {
    const { status, json } = await server.call({ method: 'POST', path: '/v1/boxes/web:start' });
    expect(status).toBe(400);
    expect(json).toMatchObject({
      code: 'RUNTIME_ERROR',
      message: expect.stringContaining('is not in this state directory') as unknown,
    });
    expect(json['hint']).toContain('another BoxRun edition');
  });

  it('removes such a box, and a new box can have its name', async () => {
    expect((await server.call({ method: 'DELETE', path: '/v1/boxes/web?force=true' })).status).toBe(200);
    const box = await server.client.create({ image: 'base', name: 'web' });
    expect(box.status).toBe('running');
  });
});
