// Answers every failed request. The error decides the status and the headers. Unexpected errors are logged, each once.
// The body is always `{"code", "message"}`, with a `hint` if the error has one, and never contains a stack trace.
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import type { ErrorBody } from '../../shared/api.ts';
import { badAddress } from './well-formed.ts';
import { BoxRunError, errorCatalogue } from '../../shared/errors.ts';

export function errorBody(error: BoxRunError): ErrorBody {
  return { code: error.code, message: error.message, ...(error.hint === undefined ? {} : { hint: error.hint }) };
}

/** Headers for an error: Retry-After if the client can try again, WWW-Authenticate if the request needs the token. */
export function errorHeaders({ code }: BoxRunError): Readonly<Record<string, string>> {
  if (errorCatalogue[code].retryable) return { 'retry-after': '1' };
  return code === 'UNAUTHORIZED' ? { 'www-authenticate': 'Bearer' } : {};
}

/** Turns any error of a route or of fastify into an error of the catalogue. */
export function asBoxRunError(error: unknown, requestId: string): BoxRunError {
  if (error instanceof BoxRunError) return error;
  const { code, statusCode, message } = error as Partial<FastifyError>;
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new BoxRunError('VALIDATION_ERROR', 'the body is too large', { status: 413 });
  }
  if (code === 'FST_ERR_BAD_URL') return badAddress();
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    return new BoxRunError('UNSUPPORTED_MEDIA_TYPE', 'the body must be JSON', {
      hint: 'send Content-Type: application/json',
    });
  }
  if (code === 'FST_ERR_CTP_INVALID_JSON_BODY') return new BoxRunError('VALIDATION_ERROR', 'the body is no JSON');
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new BoxRunError('VALIDATION_ERROR', message ?? 'the request is not valid', { status: statusCode });
  }
  return new BoxRunError('RUNTIME_ERROR', 'the server failed unexpectedly', {
    status: 500,
    hint: `its log says more (request ${requestId})`,
    cause: error,
  });
}

/** Sends the answer for `thrown`. */
export function answerError(thrown: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const error = asBoxRunError(thrown, request.id);
  if (error.status >= 500 && error.code !== 'UNAVAILABLE') {
    // The query is not logged, because it can contain a login code.
    const [path] = request.url.split('?', 1);
    request.log.error({ err: error.cause ?? error, requestId: request.id, path }, 'a request failed unexpectedly');
  }
  void reply.headers(errorHeaders(error));
  return reply
    .code(error.status)
    .type('application/json; charset=utf-8')
    .send(JSON.stringify(errorBody(error)));
}

export function answerNotFound(request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const path = request.url.split('?', 1)[0] ?? '';
  return answerError(new BoxRunError('NOT_FOUND', `there is nothing at ${request.method} ${path}`), request, reply);
}
