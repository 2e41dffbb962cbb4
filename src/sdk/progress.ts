// The answer of a long request that tells its progress as server-sent events, before its result.
// It never reconnects, because the request would begin again.
import type { Box, Progress } from '../shared/api.ts';
import { BoxRunError } from '../shared/errors.ts';
import { errorOfAnswer } from './errors.ts';
import { readMessages } from './messages.ts';
import type { CreateBoxInput, CreateOptions } from './options.ts';
import { keyHeader } from './request-parts.ts';
import type { Transport, TransportRequest } from './transport.ts';

/**
 * @param resultName the event that has the result
 * @param hint for the error when the server ends before the result
 * @throws the error of the request; UNAVAILABLE if the connection is lost
 */
export async function readProgress<Result>(
  transport: Transport,
  request: TransportRequest,
  resultName: string,
  onProgress: ((progress: Progress) => void) | undefined,
  hint?: string,
): Promise<Result> {
  for await (const { event, data } of readMessages(transport, request)) {
    if (event === 'progress') onProgress?.(JSON.parse(data) as Progress);
    else if (event === resultName) return JSON.parse(data) as Result;
    else if (event === 'error') throw errorOfAnswer(200, data);
  }
  throw new BoxRunError('UNAVAILABLE', `the server ended before it gave the ${resultName}`, {
    ...(hint === undefined ? {} : { hint }),
  });
}

/** Creates a box, and tells the progress meanwhile. @throws as the create of the client */
export async function createBoxWithProgress(
  transport: Transport,
  input: CreateBoxInput,
  { onProgress, idempotencyKey, signal }: CreateOptions,
): Promise<Box> {
  const request = {
    method: 'POST',
    path: '/v1/boxes',
    json: input,
    headers: keyHeader(idempotencyKey),
    signal,
  } as const;
  return readProgress(transport, request, 'box', onProgress, 'the box may have been created; see `boxrun ls`');
}
