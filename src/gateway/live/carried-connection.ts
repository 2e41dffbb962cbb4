// Carries the bytes of one connection to a client, over a WebSocket or as they are. Each side waits for the other one.
// The end of one direction leaves the other one open. A connection that breaks never looks like one that ends, as far
// as the transport can say it: a Unix socket cannot.
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { BoxRunError } from '../../shared/errors.ts';
import { fits } from '../../shared/ipc/contract.ts';
import { PortMessage } from '../../shared/api.ts';
import { drained } from '../../shared/waiting/drained.ts';
import type { ClientSocket, WebSocketMessage } from './client-socket.ts';

export interface RawOptions {
  /** The bytes that the client has sent behind its request. */
  readonly head: Buffer;
  /** The head of the answer. */
  readonly answer?: string;
  /** Breaks the connection off. */
  readonly closing: AbortSignal;
}

const tcpAnswer = 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: tcp\r\n\r\n';

export function carryRaw(client: Duplex, connection: Duplex, { head, answer = tcpAnswer, closing }: RawOptions): void {
  client.write(answer);
  if (client instanceof Socket) client.setNoDelay(true);
  if (head.length > 0) client.unshift(head);
  const breakOff = () => {
    if (!client.destroyed && client instanceof Socket && client.remoteAddress !== undefined) client.resetAndDestroy();
    client.destroy();
    connection.destroy();
  };
  closing.addEventListener('abort', breakOff, { once: true });
  connection.on('error', breakOff);
  client.on('error', breakOff);
  client.on('close', () => {
    closing.removeEventListener('abort', breakOff);
    if (!client.readableEnded || !client.writableFinished) connection.destroy();
  });
  connection.on('close', () => {
    if (!connection.readableEnded || !connection.writableFinished) breakOff();
  });
  client.pipe(connection);
  connection.pipe(client);
}

/** Binary messages are bytes. The message `eof` ends the direction of its sender. */
export async function carryMessages(client: ClientSocket, connection: Duplex): Promise<void> {
  const onGone = () => {
    connection.destroy();
  };
  connection.on('error', () => undefined); // The reader below gets it.
  if (client.gone.aborted) onGone();
  client.gone.addEventListener('abort', onGone, { once: true });
  client.onMessage((message) => take(message, connection, client));
  for await (const piece of connection.iterator({ destroyOnReturn: false })) await client.send(piece as Buffer);
  await client.sendMessage({ type: 'eof' });
  if (!connection.closed) await new Promise((resolve) => connection.once('close', resolve));
  client.close();
}

async function take({ data, isBinary }: WebSocketMessage, connection: Duplex, client: ClientSocket): Promise<void> {
  if (!isBinary) {
    if (isEnd(data)) connection.end();
    else client.fail(new BoxRunError('VALIDATION_ERROR', 'a text frame must be {"type":"eof"}'));
  } else if (connection.writable && !connection.write(data)) {
    await drained(connection);
  }
}

function isEnd(data: Buffer): boolean {
  try {
    return fits(PortMessage, JSON.parse(data.toString()));
  } catch {
    return false;
  }
}
