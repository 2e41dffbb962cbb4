// Sends one plain GET to the Unix socket of a server, on a new connection and with a deadline. So a test can ask while
// processes of the server are killed.
import { request } from 'node:http';
import { defaultSocket } from '../../../src/shared/settings/socket-place.ts';

export interface LocalAnswer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

const timeoutMs = 3_000;

/** @throws when no answer comes within `timeoutMs` */
export function getLocal(stateDir: string, path: string): Promise<LocalAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { socketPath: defaultSocket(stateDir), path, agent: false, signal: AbortSignal.timeout(timeoutMs) },
      (incoming) => {
        let text = '';
        incoming.setEncoding('utf8');
        incoming.on('data', (piece: string) => (text += piece));
        incoming.on('error', reject);
        incoming.on('end', () => {
          resolve({ status: incoming.statusCode ?? 0, type: incoming.headers['content-type'] ?? '', text });
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end();
  });
}
