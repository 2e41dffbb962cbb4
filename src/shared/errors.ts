// The catalogue of errors. Every error that a process sends to another one or to a user is in it. Codes and HTTP
// statuses are the public contract, because clients compare them. This file imports nothing, so browsers can load it.

interface CatalogueEntry {
  readonly status: number;
  /** True if the same request may succeed when the client sends it again without a change. */
  readonly retryable: boolean;
}

export const errorCatalogue = {
  BOX_NOT_FOUND: { status: 404, retryable: false },
  EXEC_NOT_FOUND: { status: 404, retryable: false },
  FILE_NOT_FOUND: { status: 404, retryable: false },
  RESOURCE_EXCEEDED: { status: 409, retryable: false },
  NAME_ALREADY_EXISTS: { status: 409, retryable: false },
  BOX_ALREADY_RUNNING: { status: 409, retryable: false },
  BOX_NOT_RUNNING: { status: 400, retryable: false },
  EXEC_ALREADY_FINISHED: { status: 400, retryable: false },
  IMAGE_PULL_FAILED: { status: 400, retryable: false },
  TIMEOUT: { status: 400, retryable: false },
  RUNTIME_ERROR: { status: 400, retryable: false },
  CANCELED: { status: 400, retryable: false },
  PORT_NOT_OPEN: { status: 400, retryable: false },
  VALIDATION_ERROR: { status: 422, retryable: false },
  NOT_FOUND: { status: 404, retryable: false },
  METHOD_NOT_ALLOWED: { status: 405, retryable: false },
  UNAUTHORIZED: { status: 401, retryable: false },
  FORBIDDEN: { status: 403, retryable: false },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, retryable: false },
  TOO_MANY_REQUESTS: { status: 429, retryable: true },
  UNAVAILABLE: { status: 503, retryable: true },
} as const satisfies Record<string, CatalogueEntry>;

export type ErrorCode = keyof typeof errorCatalogue;

export interface ErrorDetails {
  /** What the user can do about the error. It is shown after the message. */
  hint?: string;
  /** Another HTTP status than the catalogue's, where the public contract requires it. */
  status?: number;
  cause?: unknown;
}

const brand = Symbol.for('boxrun.error');

/**
 * An error with a code of the catalogue. `message` is for people and names the thing that the error is about.
 *
 * A program may contain several copies of this class, one per bundle. `instanceof` compares the brand, so an error of
 * one copy is an instance of every copy.
 */
export class BoxRunError extends Error {
  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && brand in value;
  }

  readonly [brand] = true;
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly status: number;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'BoxRunError';
    this.code = code;
    this.hint = details.hint;
    this.status = details.status ?? errorCatalogue[code].status;
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(errorCatalogue, value);
}

/** True if the process (EMFILE) or the host (ENFILE) has no file descriptor left; see open(2). */
export function lacksDescriptors(error: unknown): boolean {
  return error instanceof Error && ['EMFILE', 'ENFILE'].includes(String((error as { code?: unknown }).code));
}

/** `error` as an error of the catalogue. An unknown one is a fault of BoxRun itself: RUNTIME_ERROR with status 500. */
export function toBoxRunError(error: unknown): BoxRunError {
  if (error instanceof BoxRunError) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (lacksDescriptors(error)) {
    const hint = 'run less at once, or start the server with a higher limit of open files (ulimit -n)';
    return new BoxRunError('RESOURCE_EXCEEDED', 'a process of the server has no file descriptor left', {
      hint,
      cause: message,
    });
  }
  return new BoxRunError('RUNTIME_ERROR', message, { status: 500, cause: error });
}

/** The text of any thrown value, for logs and messages. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
