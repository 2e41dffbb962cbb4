// What a worker could not send: complete in its file or not there at all, read by the next supervisor, deleted once
// sent.
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

describe('a spill', () => {
  it('comes back as it was written, bytes included, and can be forgotten', async () => {
    const dir = temporaryDirectory();
    await writeSpill(dir, 'wrk_1', spill);
    const [found] = await readSpills(dir);
    expect(found?.spill).toEqual(spill);
    await found?.forget();
    expect(readdirSync(dir)).toEqual([]);
  });

  it("is its owner's alone, and leaves nothing half-written beside it", async () => {
    const dir = temporaryDirectory();
    await writeSpill(dir, 'wrk_1', spill);
    expect(readdirSync(dir)).toEqual(['wrk_1.spill']);
    expect(statSync(join(dir, 'wrk_1.spill')).mode & 0o777).toBe(0o600);
  });

  it('that was cut off while it was written is not taken for one', async () => {
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

  it('of another form is told and left where it is', async () => {
    await expectLeftAlone(Buffer.from([0x81, 0xa1, 0x61, 0x01]));
  });

  it('that does not parse is told and left where it is', async () => {
    await expectLeftAlone(Buffer.from('garbage'));
  });

  it('that is empty is told and left where it is', async () => {
    await expectLeftAlone(Buffer.alloc(0));
  });
});
