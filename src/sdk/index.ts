// The SDK for Node: `import { BoxRun } from 'boxrun/sdk'`. It uses only the public API of the server.
// Browsers have an entry of their own, browser.ts.
import { BoxRunClient } from './client.ts';
import { createNodePlatform, findServer, type ServerAddress } from './node.ts';

export * from './public.ts';
export type { ServerAddress } from './node.ts';

/**
 * A client of a BoxRun server. It connects at the first request.
 * @param server by default, the server that BOXRUN_SOCKET, BOXRUN_HOST, BOXRUN_PORT, BOXRUN_TOKEN and BOXRUN_STATE_DIR
 * name, as for the command `boxrun`
 */
export class BoxRun extends BoxRunClient {
  constructor(server: ServerAddress = findServer()) {
    super(createNodePlatform(server));
  }
}
