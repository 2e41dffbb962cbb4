// What goes wrong between a client and its server, as errors of the catalogue: an error answer keeps the code that the
// server gave it, and a server that cannot be reached is UNAVAILABLE.
import { BoxRunError, errorText, isErrorCode } from '../shared/errors.ts';

/** The error behind an error answer; `body` is what came, JSON or not. */
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
    hint: 'is it a BoxRun server, or is there a proxy before it?',
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

/** The error behind a request that got no answer, or whose answer broke off. */
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
