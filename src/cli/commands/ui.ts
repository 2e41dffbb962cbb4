// The command ui: prints a link to the server's page. If the server needs a token, the link logs one browser in.
// A user gets the link only with the token, or through the Unix socket of the server.
import { jsonOption } from '../parsing/box-options.ts';
import { defineCommand } from '../parsing/command.ts';
import { printJson } from '../render/render.ts';

export const uiCommand = defineCommand({
  name: 'ui',
  describe: "print a link to the server's page; it logs one browser in",
  options: { json: jsonOption },
  examples: [['ui', 'open the link in a browser within one minute']],
  run: ({ json }, { withClient }) =>
    withClient(async (client) => {
      const link = await client.uiLink();
      if (json) printJson(link);
      else process.stdout.write(`${link.url}\n`);
      return 0;
    }),
});
