// ui: prints a link to the server's page that logs one browser in, where the server asks for a token.
// Whoever reaches the server by its socket, or has the token, gets one.
import { jsonOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { printJson } from '../render/render.ts';

export const uiCommand = defineCommand({
  name: 'ui',
  describe: "print a link to the server's page that logs one browser in",
  options: { json: jsonOption },
  examples: [['ui', 'open what it prints in a browser, within a minute']],
  run: ({ json }, { withClient }) =>
    withClient(async (client) => {
      const link = await client.uiLink();
      if (json) printJson(link);
      else process.stdout.write(`${link.url}\n`);
      return 0;
    }),
});
