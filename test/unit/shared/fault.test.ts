// The switch for faults: the table and the code name the same points, only an armed point holds, and only once.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createFaultPoint } from '../../../src/shared/faults/fault.ts';
import { faultPoints } from '../../../src/shared/faults/fault-points.ts';
import { readFiles } from '../../style/sources.ts';

/** Code of one process that lies in src/shared. */
const sharedBy: Readonly<Record<string, string>> = {
  'src/shared/store/migrations.ts': 'writer',
  'src/shared/contracts/spill.ts': 'worker',
};

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'boxrun-fault-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

it('has in the code exactly the points of the table, each once, in the process that its name says', () => {
  const inCode = readFiles('src', '.ts').flatMap(({ path, text }) =>
    [...text.matchAll(/\bfaultPoint\('([^']+)'\)/g)].map(([, point]) => ({ path, point: point ?? '' })),
  );
  expect(inCode.map(({ point }) => point).sort()).toEqual(Object.keys(faultPoints).sort());
  for (const { path, point } of inCode) {
    const folder = sharedBy[path] ?? path.split('/')[1];
    expect(`${folder}: ${point}`).toBe(`${point.split('.')[0]}: ${point}`);
  }
  expect(inCode.length).toBeGreaterThanOrEqual(40);
});

it('does nothing without a directory, and at a point that is not armed', () => {
  writeFileSync(join(directory, 'writer.boot.locked.armed'), '');
  createFaultPoint(undefined)('writer.boot.locked');
  createFaultPoint('')('writer.boot.locked');
  createFaultPoint(directory)('writer.boot.listening');
  expect(readdirSync(directory)).toEqual(['writer.boot.locked.armed']);
});

it('says that it was reached and by whom, and holds only the first time', () => {
  writeFileSync(join(directory, 'writer.boot.locked.armed'), '');
  writeFileSync(join(directory, 'writer.boot.locked.go'), '');
  const reach = createFaultPoint(directory);
  reach('writer.boot.locked');
  expect(readdirSync(directory).sort()).toEqual(['writer.boot.locked.go', `writer.boot.locked.reached.${process.pid}`]);
  rmSync(join(directory, 'writer.boot.locked.go'));
  reach('writer.boot.locked'); // Would hold for limits.faultHoldMs.
});
