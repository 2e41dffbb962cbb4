// Streams of bytes between the gateway and a worker, for terminals, files and the input of commands.
// The supervisor only says where the worker listens; the bytes do not pass through it. This file checks every report
// that a worker sends on a stream.
import { StreamReport, type StreamOperation } from '../../shared/contracts/worker.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { fits } from '../../shared/ipc/contract.ts';
import { openStream, type ByteStream } from '../../shared/ipc/stream.ts';
import type { GatewayParts } from '../parts.ts';

/**
 * Opens a stream to the worker of a box.
 * @param box the id or the name of the box
 * @param about the id of the client's request, for the logs
 * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING, UNAVAILABLE
 */
export async function openWorkerStream(
  parts: Pick<GatewayParts, 'supervisor'>,
  box: string,
  operation: StreamOperation,
  about: { readonly requestId?: string } = {},
): Promise<ByteStream> {
  return (await openTransfer(parts, box, operation, about)).stream;
}

/** As openWorkerStream. `isDirect`: the worker takes the bytes over a second connection. */
export async function openTransfer(
  parts: Pick<GatewayParts, 'supervisor'>,
  box: string,
  operation: StreamOperation,
  about: { readonly requestId?: string } = {},
): Promise<{ readonly stream: ByteStream; readonly isDirect: boolean }> {
  const grant = await parts.supervisor.request('openStream', { box, operation }, about);
  return { stream: await openStream(grant.socketPath, grant.token), isDirect: grant.direct === true };
}

/**
 * Finds the error to report after a stream broke off. If the worker is gone, the supervisor is asked about the box: an
 * error such as BOX_NOT_FOUND tells the client more than UNAVAILABLE. Otherwise it gives `error`.
 */
export async function reasonOfBreak(
  parts: Pick<GatewayParts, 'supervisor'>,
  box: string,
  operation: StreamOperation,
  error: unknown,
): Promise<unknown> {
  if (!(error instanceof BoxRunError) || error.code !== 'UNAVAILABLE') return error;
  return parts.supervisor.request('openStream', { box, operation }).then(
    () => error,
    (reason: unknown) => (reason instanceof BoxRunError && reason.code.startsWith('BOX_') ? reason : error),
  );
}

/** One item from a worker: bytes, or a report such as the size of a file or an exit code. */
export type WorkerItem = { readonly bytes: Uint8Array } | { readonly report: StreamReport };

/**
 * The next item from the worker; null when the worker has ended the stream.
 * @throws the error that the worker reports, UNAVAILABLE when the worker is gone or sends an unknown report
 */
export async function nextItem(stream: ByteStream): Promise<WorkerItem | null> {
  const item = await stream.next();
  if (item === null || 'bytes' in item) return item;
  if (fits(StreamReport, item.control)) return { report: item.control as StreamReport };
  stream.close();
  throw new BoxRunError('UNAVAILABLE', 'the worker reported something unknown');
}

/**
 * Reads the next item, which must be a report of this type.
 * @throws UNAVAILABLE for any other item, and as `nextItem`
 */
export async function nextReport<T extends StreamReport['type']>(
  stream: ByteStream,
  type: T,
): Promise<Extract<StreamReport, { type: T }>> {
  const item = await nextItem(stream);
  if (item !== null && 'report' in item && item.report.type === type)
    return item.report as Extract<StreamReport, { type: T }>;
  throw new BoxRunError('UNAVAILABLE', `the worker did not report ${type}`);
}
