// Turns error answers and connection errors into errors of the catalogue. An error answer keeps the code from the
// server. A server that cannot be reached gives UNAVAILABLE.
import { BoxRunError, errorText, isErrorCode } from '../shared/errors.ts';

/** The error for an error answer. `body` is the text of the answer, which may not be JSON. */
export function errorOfAnswer(status: number, body: string): BoxRunError {
  const { code, message, hint } = readBody(body);
  if (isErrorCode(code)) {
    return new BoxRunError(code, typeof message === 'string' ? message : code, {
      status,
      ...(typeof hint === 'string' ? { hint } : {}),
    });
  }
  return new BoxRunError('RUNTIME_ERROR', `the server answered with status ${status}`, {
    status,
    hint: 'check that this is a BoxRun server, and that no proxy stands in between',
  });
}

function readBody(body: string): { code?: unknown; message?: unknown; hint?: unknown } {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

const unreachableCodes = ['ECONNREFUSED', 'ENOENT', 'EACCES', 'ENOTFOUND', 'EHOSTUNREACH', 'ENOTSOCK', 'ETIMEDOUT'];

/**
 * The error for a request whose connection failed, before or during the answer.
 * @param address of the server, for the message
 * @param signal of the request: if it has aborted, the error is CANCELED
 */
export function errorOfConnection(error: unknown, address: string, signal: AbortSignal | undefined): BoxRunError {
  if (error instanceof BoxRunError) return error;
  if (signal?.aborted) return new BoxRunError('CANCELED', 'the request was canceled', { cause: error });
  const cause = rootCause(error);
  const code = (cause as { code?: string } | undefined)?.code ?? '';
  if (unreachableCodes.includes(code)) {
    return new BoxRunError('UNAVAILABLE', `no server answers at ${address}`, {
      hint: 'start one with: boxrun serve',
      cause: error,
    });
  }
  return new BoxRunError('UNAVAILABLE', `the connection to the server was lost: ${errorText(cause)}`, { cause: error });
}

function rootCause(error: unknown): unknown {
  let cause = error;
  while (cause instanceof Error && cause.cause !== undefined) cause = cause.cause;
  return cause;
}
