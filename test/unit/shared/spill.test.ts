// Tests the file for changes that a worker could not send. It is complete or does not exist, and it is deleted when its
// changes have been sent.
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readSpills, writeSpill, type Spill } from '../../../src/shared/contracts/spill.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';
import { addEvent, finishExec, insertExec, logEvent } from '../writer/setup.ts';

const spill: Spill = {
  boxId: 'box_a',
  generation: 4,
  changes: [
    insertExec(),
    addEvent('exec_aaaaaaaaaaa', { ...logEvent(0), data: Buffer.from([0xff, 0]) }),
    finishExec('exec_aaaaaaaaaaa'),
  ],
};

describe('a spill file', () => {
  it('is read as it was written, including its bytes, and can be deleted', async () => {
    const dir = temporaryDirectory();
    await writeSpill(dir, 'wrk_1', spill);
    const [found] = await readSpills(dir);
    expect(found?.spill).toEqual(spill);
    await found?.remove();
    expect(readdirSync(dir)).toEqual([]);
  });

  it('is private, and leaves no partial file beside it', async () => {
    const dir = temporaryDirectory();
    await writeSpill(dir, 'wrk_1', spill);
    expect(readdirSync(dir)).toEqual(['wrk_1.spill']);
    expect(statSync(join(dir, 'wrk_1.spill')).mode & 0o777).toBe(0o600);
  });

  it('is not read if it was only partly written', async () => {
    const dir = temporaryDirectory();
    writeFileSync(join(dir, 'wrk_1.spill.4711'), 'half');
    expect(await readSpills(dir)).toEqual([]);
  });

  async function expectLeftAlone(bytes: Buffer): Promise<void> {
    const dir = temporaryDirectory();
    await writeSpill(dir, 'wrk_good', spill);
    writeFileSync(join(dir, 'wrk_odd.spill'), bytes);
    const found = await readSpills(dir);
    expect(found.map(({ path, spill: value }) => [path.slice(dir.length + 1), value !== null]).sort()).toEqual([
      ['wrk_good.spill', true],
      ['wrk_odd.spill', false],
    ]);
    expect(readdirSync(dir)).toHaveLength(2);
  }

  it('is reported and not changed if it has another form', async () => {
    await expectLeftAlone(Buffer.from([0x81, 0xa1, 0x61, 0x01]));
  });

  it('is reported and not changed if it does not parse', async () => {
    await expectLeftAlone(Buffer.from('garbage'));
  });

  it('is reported and not changed if it is empty', async () => {
    await expectLeftAlone(Buffer.alloc(0));
  });
});
