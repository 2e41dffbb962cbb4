// Tests the files in which the gateway stores an upload whose file comes before its 'dest'. Other uploads need no such
// file. The files need room on the disk of the server.
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { clearSpools, createSpools } from '../../../src/gateway/http/spools.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';

async function* pieces(): AsyncGenerator<Buffer> {
  for (let count = 0; count < 3; count++) yield Buffer.from('abc');
}

async function read(freeDiskMb: number): Promise<string> {
  let text = '';
  for await (const piece of createSpools(temporaryDirectory(), freeDiskMb).withRoom(pieces())) text += piece.toString();
  return text;
}

it('an upload passes while the disk has room', async () => {
  expect(await read(0)).toBe('abcabcabc');
});

it('an upload is refused with a hint if the disk has no room', async () => {
  await expect(read(2 ** 40)).rejects.toMatchObject({
    code: 'RESOURCE_EXCEEDED',
    hint: expect.stringContaining("'dest'") as string,
  });
});

it('the gateway removes the files of a process that has ended, and no others', async () => {
  const dir = temporaryDirectory();
  const own = await createSpools(dir, 0).make();
  // A directory with the same process id, from an earlier process.
  for (const name of [`upload-${process.pid}-1-abcdef`, `upload-${2 ** 22 + 1}-1-abcdef`, 'boxes'])
    mkdirSync(join(dir, name));
  await clearSpools(dir);
  expect(readdirSync(dir).sort()).toEqual(['boxes', own.slice(dir.length + 1)].sort());
});
