// Shared code of the tests of the SDK: a small HTTP server whose answers the test decides, and the text of server-sent
// events. The server and its client are closed when their test ends.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';
import { BoxRun } from '../../../src/sdk/index.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** Starts a server that answers with `handler`, and gives a client of it. */
export async function serve(handler: Handler): Promise<BoxRun> {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const client = new BoxRun({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  onTestFinished(async () => {
    await client.close();
    server.closeAllConnections();
    server.close();
  });
  return client;
}

export const sse = (response: ServerResponse) => response.writeHead(200, { 'content-type': 'text/event-stream' });
export const logEvent = (seq: number, text: string, stream = 'stdout') =>
  `id: ${seq}\nevent: log\ndata: ${JSON.stringify({ stream, data_b64: Buffer.from(text).toString('base64'), seq })}\n\n`;
export const exitEvent = (seq: number) =>
  `id: ${seq}\nevent: exit\ndata: ${JSON.stringify({ stream: null, data: '{"exit_code":0}', seq })}\n\n`;

export async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}
