// Runs every program in examples/ unchanged against a real server, and checks its output. No example may leave a box
// behind.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startServer, type TestServer } from '../support/servers/server.ts';
import { root, runProgram } from './program.ts';

const printed: Readonly<Record<string, string | RegExp>> = {
  'files.mjs': '18 bytes\napple\npear\nquince\n\n',
  'labels-and-keys.mjs': 'gamma done\nbeta done\nalpha done\n3\n',
  'many-boxes.mjs': '1 2 3 4\n',
  'run-command.mjs': 'exit code 3\nstdout "I am root\\n"\nstderr "oops\\n"\n',
  'stream-output.mjs': 'tick 1\ntick 2\ntick 3\nthe command was canceled\n',
  'watch-changes.mjs': "0 boxes at first\nmayfly: created\nmayfly: 'sh -c exit 3' ended with 3\nmayfly: removed\n",
  'terminal.mjs': /30 100[^]*the shell exited with 7\n$/,
};

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(async () => {
  await server.close();
});

it('this test knows the output of every example', () => {
  expect(readdirSync(join(root, 'examples')).sort()).toEqual(Object.keys(printed).sort());
});

it.each(Object.entries(printed))('examples/%s prints the expected output', async (name, expected) => {
  const output = await runProgram(server, { program: process.execPath, file: join(root, 'examples', name) });
  if (typeof expected === 'string') expect(output).toBe(expected);
  else expect(output).toMatch(expected);
  expect(await server.client.listBoxes()).toEqual([]);
});
