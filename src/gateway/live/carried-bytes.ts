// The bytes of large transfers between the gateway and a box. For them the worker offers a second connection, which
// leads to the program in the box itself: so the bytes do not pass through the worker. Small ones, and those of workers
// and engines that offer none, go over the stream of the operation.
import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { StreamOperation, StreamReport } from '../../shared/contracts/worker.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { openDirect, type ByteStream } from '../../shared/ipc/stream.ts';
import { drained } from '../../shared/waiting/drained.ts';
import type { GatewayParts } from '../parts.ts';
import { nextItem, nextReport, openTransfer, type WorkerItem } from './worker-stream.ts';

/** From this length on, the start of a program with a connection of its own pays for itself. */
const largeBytesMin = 4 * 1024 * 1024;
const blockHeadBytes = 4;

type Done = Extract<StreamReport, { type: 'done' }>;

/**
 * Sends a body to an operation that takes bytes, and waits until the box has all of it.
 * @param about.bytes the length of the body, as far as it is known
 * @throws the errors of the body and of the operation
 */
export async function sendToBox(
  parts: Pick<GatewayParts, 'supervisor'>,
  box: string,
  operation: StreamOperation,
  body: Readable,
  { requestId, bytes }: { readonly requestId: string; readonly bytes: number | null },
): Promise<Done> {
  // Without a length, the body may be large.
  const asked = bytes === null || bytes >= largeBytesMin ? { ...operation, direct: true } : operation;
  const pieces = piecesOf(body);
  const { stream, isDirect } = await openTransfer(parts, box, asked, { requestId });
  try {
    if (isDirect) return await sendDirectly(pieces, stream);
    const done = nextReport(stream, 'done');
    await Promise.race([sendOver(pieces, stream), done]);
    return await done;
  } finally {
    stream.close();
  }
}

/** @throws VALIDATION_ERROR if the body was cut */
async function* piecesOf(body: Readable): AsyncGenerator<Buffer> {
  // The rest of a refused body is read by discardRest, so leaving this loop must not close the connection.
  yield* body.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>;
  if ((body as { truncated?: boolean }).truncated === true)
    throw new BoxRunError('VALIDATION_ERROR', 'the file was cut');
}

/** The length of a body by its header, in bytes. Null: the header does not say it. */
export function announcedLength(headers: IncomingHttpHeaders): number | null {
  const length = Number(headers['content-length'] ?? Number.NaN);
  return Number.isSafeInteger(length) ? length : null;
}

async function sendOver(pieces: AsyncIterable<Buffer>, stream: ByteStream): Promise<void> {
  for await (const piece of pieces) await stream.send(piece);
  await stream.end();
}

async function sendDirectly(pieces: AsyncIterable<Buffer>, stream: ByteStream): Promise<Done> {
  const { socketPath, token } = await nextReport(stream, 'direct');
  const socket = await openDirect(socketPath, token);
  try {
    await nextReport(stream, 'go');
    const done = nextReport(stream, 'done');
    done.catch(() => undefined); // It is awaited below, unless the body fails first.
    for await (const piece of pieces) if (!(await sendBlock(socket, piece))) break;
    await sendBlock(socket, null);
    return await done;
  } finally {
    socket.destroy();
  }
}

/** @param bytes null: everything was sent. @returns false if the program has ended; the stream says why */
async function sendBlock(socket: Socket, bytes: Buffer | null): Promise<boolean> {
  if (!socket.writable) return false;
  const head = Buffer.alloc(blockHeadBytes);
  head.writeUInt32LE(bytes?.length ?? 0);
  socket.cork();
  let hasRoom = socket.write(head);
  if (bytes !== null) hasRoom = socket.write(bytes);
  socket.uncork();
  if (!hasRoom) await drained(socket);
  return socket.writable;
}

/** The items of an operation that sends bytes, wherever the bytes come from. */
export async function* itemsFromBox(stream: ByteStream): AsyncGenerator<WorkerItem, void, void> {
  for (let item = await nextItem(stream); item !== null; item = await nextItem(stream)) {
    if (!('report' in item) || item.report.type !== 'direct') {
      yield item;
      continue;
    }
    const socket = await openDirect(item.report.socketPath, item.report.token);
    try {
      for await (const bytes of socket) yield { bytes: bytes as Buffer };
    } finally {
      socket.destroy();
    }
  }
}
