// Tests the man pages: package.json names one for each command, and their text is escaped for man(7).
// The test of the package checks that npm installs them.
import { expect, it } from 'vitest';
import packageJson from '../../../package.json' with { type: 'json' };
import { commandTable } from '../../../src/cli/commands/command-table.ts';
import { manPages } from '../../../src/cli/man-pages.ts';

it('package.json names the page of boxrun and of each command', () => {
  const names = Object.keys(manPages(commandTable, {})).map((name) => `dist/man/${name}`);
  expect([...packageJson.man].sort()).toEqual(names.sort());
});

it('a page shows the help text of the command and of its subcommands', () => {
  const helps = { images: "boxrun images\n.hidden 'x\\n' --json\n", 'images rm': 'boxrun images rm\n' };
  const page = manPages(commandTable, helps)['boxrun-images.1'] ?? '';
  expect(page).toContain('.SH NAME\nboxrun\\-images \\- list');
  expect(page).toContain("boxrun images\n\\&.hidden 'x\\en' \\-\\-json\n");
  expect(page).toContain('.nf\nboxrun images rm\n.fi\n');
});
