// The SDK for Node: `import { BoxRun } from 'boxrun/sdk'`. Used by programs and by the command line; it knows the
// public contract only. Browsers have an entry of their own, browser.ts.
import { BoxRunClient } from './client.ts';
import { createNodePlatform, findServer, type ServerAddress } from './node.ts';

export * from './public.ts';
export type { ServerAddress } from './node.ts';

/**
 * A client of a BoxRun server. It connects with the first request.
 * @param server by default, the server of this user as BOXRUN_SOCKET, BOXRUN_HOST, BOXRUN_PORT, BOXRUN_TOKEN and
 * BOXRUN_STATE_DIR say
 */
export class BoxRun extends BoxRunClient {
  constructor(server: ServerAddress = findServer()) {
    super(createNodePlatform(server));
  }
}
