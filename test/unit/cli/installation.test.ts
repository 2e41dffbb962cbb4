// Tests how `boxrun upgrade` updates this installation: by npm if the package is published, otherwise by hand.
import { expect, it } from 'vitest';
import { installedPrefix, planUpgrade, publishedName } from '../../../src/cli/server/installation.ts';

it('installs no package by name while BoxRun is not published', () => {
  expect(publishedName).toBeNull();
  const plan = planUpgrade('/usr/local', publishedName);
  expect(plan).toMatchObject({ kind: 'by hand' });
  expect(JSON.stringify(plan)).not.toContain('@latest');
});

it('installs the published package in the place of this one', () => {
  expect(planUpgrade('/opt/x', '@owner/boxrun')).toEqual({
    kind: 'npm',
    npmArgs: ['install', '--global', '--prefix', '/opt/x', '@owner/boxrun@latest'],
  });
});

it('says how to update a checkout, whether BoxRun is published or not', () => {
  for (const name of [null, '@owner/boxrun']) expect(planUpgrade(null, name)).toMatchObject({ kind: 'by hand' });
});

it('finds the prefix of a global installation from the path of the program', () => {
  expect(installedPrefix('/opt/x/lib/node_modules/boxrun/dist/cli.cjs')).toBe('/opt/x');
  expect(installedPrefix('/home/user/boxrun/dist/cli.cjs')).toBeNull();
});
