// What happens with the rest of a body that the server has refused: forms of uploads, and bodies that are bytes. The
// client must be able to read the answer.
import type { IncomingMessage } from 'node:http';
import { limits } from '../../shared/limits.ts';

/**
 * Reads and discards the rest of a refused upload, for at most limits.uploadRefusedMs, because many clients read the
 * answer only after they have sent everything. If the connection stays open after the answer, this function does not
 * wait for the rest: a client that reads early gets the answer early. If the answer closes the connection, it resolves
 * only after the rest: bytes that arrive at a closed connection cause a reset, and the client could lose the answer.
 */
export async function discardRest(request: IncomingMessage): Promise<void> {
  if (request.complete || request.destroyed) return;
  request.resume();
  const restIsRead = new Promise<void>((resolve) => {
    const timer = setTimeout(() => {
      request.destroy();
    }, limits.uploadRefusedMs);
    for (const end of ['end', 'close'] as const) {
      request.once(end, () => {
        clearTimeout(timer);
        resolve();
      });
    }
  });
  const endsConnection = request.httpVersion === '1.0' || /\bclose\b/i.test(request.headers.connection ?? '');
  if (endsConnection) await restIsRead;
}
