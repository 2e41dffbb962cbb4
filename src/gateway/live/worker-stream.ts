// Bytes straight from and to a worker, past the supervisor, which only says where: used for terminals, files and the
// input of commands. Routes ask for a stream by what it is for; what the worker reports on it is checked here.
import { StreamReport, type StreamOperation } from '../../shared/contracts/worker.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { fits } from '../../shared/ipc/contract.ts';
import { openStream, type ByteStream } from '../../shared/ipc/stream.ts';
import type { GatewayParts } from '../parts.ts';

/**
 * @param about the client's request on whose behalf it is, for the logs
 * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING, UNAVAILABLE
 */
export async function openWorkerStream(
  parts: Pick<GatewayParts, 'supervisor'>,
  box: string,
  operation: StreamOperation,
  about: { readonly requestId?: string } = {},
): Promise<ByteStream> {
  const { socketPath, token } = await parts.supervisor.request('openStream', { box, operation }, about);
  return openStream(socketPath, token);
}

/**
 * Of a stream that broke off: the error, or what became of the box, which the supervisor knows: that tells a client
 * more.
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

/** What a worker sends: bytes, or a word about them. */
export type WorkerItem = { readonly bytes: Uint8Array } | { readonly report: StreamReport };

/**
 * The next item; null at the worker's end.
 * @throws what the worker failed with, UNAVAILABLE when it is gone
 */
export async function nextItem(stream: ByteStream): Promise<WorkerItem | null> {
  const item = await stream.next();
  if (item === null || 'bytes' in item) return item;
  if (fits(StreamReport, item.control)) return { report: item.control as StreamReport };
  stream.close();
  throw new BoxRunError('UNAVAILABLE', 'the worker reported something unknown');
}

/** The report that must come next. */
export async function nextReport<T extends StreamReport['type']>(
  stream: ByteStream,
  type: T,
): Promise<Extract<StreamReport, { type: T }>> {
  const item = await nextItem(stream);
  if (item !== null && 'report' in item && item.report.type === type)
    return item.report as Extract<StreamReport, { type: T }>;
  throw new BoxRunError('UNAVAILABLE', `the worker did not report ${type}`);
}
