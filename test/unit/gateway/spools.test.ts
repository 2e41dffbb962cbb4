// Files of uploads on the disk of the server: they need room there.
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

it('passes the bytes on while the disk has room', async () => {
  expect(await read(0)).toBe('abcabcabc');
});

it('refuses them when the disk has none, and says what to do', async () => {
  await expect(read(2 ** 40)).rejects.toMatchObject({
    code: 'RESOURCE_EXCEEDED',
    hint: expect.stringContaining("'dest'") as string,
  });
});

it('clears what a process that is gone has left, and nothing else', async () => {
  const dir = temporaryDirectory();
  const own = await createSpools(dir, 0).make();
  // The same number, of an earlier process.
  for (const name of [`upload-${process.pid}-1-abcdef`, `upload-${2 ** 22 + 1}-1-abcdef`, 'boxes'])
    mkdirSync(join(dir, name));
  await clearSpools(dir);
  expect(readdirSync(dir).sort()).toEqual(['boxes', own.slice(dir.length + 1)].sort());
});
