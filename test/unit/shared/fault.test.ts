// Tests fault points: places in the code at which a test can hold a process. The table and the code have the same
// points, and only an armed point holds, only once.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createFaultPoint } from '../../../src/shared/faults/fault.ts';
import { faultPoints } from '../../../src/shared/faults/fault-points.ts';
import { readFiles } from '../../style/sources.ts';

/** The files in src/shared that run in one process only. */
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

it('the code has exactly the fault points of the table, each once and in the process in its name', () => {
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

it('a fault point does nothing without a directory or if it is not armed', () => {
  writeFileSync(join(directory, 'writer.boot.locked.armed'), '');
  createFaultPoint(undefined)('writer.boot.locked');
  createFaultPoint('')('writer.boot.locked');
  createFaultPoint(directory)('writer.boot.listening');
  expect(readdirSync(directory)).toEqual(['writer.boot.locked.armed']);
});

it('a fault point reports its process, and holds only the first time', () => {
  writeFileSync(join(directory, 'writer.boot.locked.armed'), '');
  writeFileSync(join(directory, 'writer.boot.locked.go'), '');
  const reach = createFaultPoint(directory);
  reach('writer.boot.locked');
  expect(readdirSync(directory).sort()).toEqual(['writer.boot.locked.go', `writer.boot.locked.reached.${process.pid}`]);
  rmSync(join(directory, 'writer.boot.locked.go'));
  reach('writer.boot.locked'); // A second hold would last limits.faultHoldMs.
});
