// Tests the TypeScript SDK on a real server with what programs in plain JavaScript do by mistake: each mistake is an
// error of the catalogue with a hint. Results have the names of both styles.
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BoxRunError, type BoxHandle } from '../../src/sdk/index.ts';
import { startServer, type TestServer } from '../support/servers/server.ts';

const small = { image: 'base', cpu: 1, memory_mb: 64 };

let server: TestServer;
let box: BoxHandle;
beforeAll(async () => {
  server = await startServer();
  box = await server.client.create(small);
});
afterAll(async () => {
  await server.close();
});

async function failure(work: Promise<unknown>): Promise<BoxRunError> {
  const error: unknown = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BoxRunError);
  return error as BoxRunError;
}

it.each<[unknown, RegExp]>([
  ['ls -l', /\['sh', '-c', "ls -l"\]/],
  [undefined, /\['ls', '-l'\]/],
  [7, /\['ls', '-l'\]/],
  [{ command: ['ls'] }, /cmd/],
])('the command %j is an error with a hint', async (command, hint) => {
  for (const work of [box.exec(command as string[]), box.startExec(command as string[])]) {
    const { code, hint: given } = await failure(work);
    expect([code, given]).toEqual(['VALIDATION_ERROR', expect.stringMatching(hint)]);
  }
});

it('a misspelled setting of a command or a box is an error', async () => {
  const misspelled = { cmd: ['true'], timeoutMs: 5 } as unknown as string[];
  expect(await failure(box.exec(misspelled))).toMatchObject({
    code: 'VALIDATION_ERROR',
    message: 'unknown field: "timeoutMs"',
  });
  const wrong = { ...small, memory: 64 };
  expect((await failure(server.client.create(wrong))).message).toBe('unknown field: "memory"');
  expect((await failure(box.update({ cpu: 2 } as object))).message).toBe('unknown field: "cpu"');
});

it('the upload of a file that does not exist is an error with a hint', async () => {
  const missing = await failure(box.upload('some text', '/root/file'));
  expect(missing).toMatchObject({ code: 'VALIDATION_ERROR', hint: expect.stringContaining('TextEncoder') as string });
  expect(missing.message).toContain('ENOENT');
  expect((await failure(box.upload(server.stateDir, '/root/file'))).message).toContain('EISDIR');
  await box.upload(Buffer.from('some text'), '/root/file');
  const download = await box.download('/root/file');
  // The socket of the server is a file, so no directory can be made there.
  expect(await failure(download.saveTo(join(server.socketPath, 'below')))).toMatchObject({ code: 'VALIDATION_ERROR' });
});

it('both styles of names are on both results, and JSON has only the documented ones', async () => {
  const result = await box.exec(['sh', '-c', 'exit 3']);
  expect([result.exitCode, result.exit_code, result.error, result.error_message]).toEqual([3, 3, null, null]);
  expect(Object.keys(JSON.parse(JSON.stringify(result)) as object)).not.toContain('exit_code');
  const run = await server.client.run({ ...small, cmd: ['sh', '-c', 'exit 4'] });
  expect([run.exitCode, run.exit_code, run.error, run.error_message]).toEqual([4, 4, null, null]);
  expect(Object.keys(JSON.parse(JSON.stringify(run)) as object).sort()).toEqual([
    'error_message',
    'exit_code',
    'stderr',
    'stdout',
  ]);
});
