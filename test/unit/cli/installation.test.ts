import { expect, it } from 'vitest';
import { installedPrefix, planUpgrade, publishedName } from '../../../src/cli/server/installation.ts';

it('installs nothing by name while the package is not published', () => {
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

it('says how to update a checkout, published or not', () => {
  for (const name of [null, '@owner/boxrun']) expect(planUpgrade(null, name)).toMatchObject({ kind: 'by hand' });
});

it('knows the prefix of a global installation by the place of the program', () => {
  expect(installedPrefix('/opt/x/lib/node_modules/boxrun/dist/cli.cjs')).toBe('/opt/x');
  expect(installedPrefix('/home/user/boxrun/dist/cli.cjs')).toBeNull();
});
