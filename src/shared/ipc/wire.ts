// The messages inside of IPC frames, and the form in which errors cross between processes. A message that has none of
// these forms is never given to a handler.
import { BoxRunError, errorText, isErrorCode, toBoxRunError } from '../errors.ts';

export interface WireError {
  readonly code: string;
  readonly message: string;
  readonly status: number;
  readonly hint: string | null;
}

/** `id` is the number of a request on its connection. */
export type WireMessage =
  | readonly ['hello', contract: string, version: number, identity: unknown]
  | readonly ['request', id: number, method: string, timeoutMs: number, params: unknown, requestId: string | null]
  | readonly ['cancel', id: number]
  | readonly ['result', id: number, value: unknown]
  | readonly ['error', id: number, error: WireError]
  | readonly ['progress', id: number, stage: string, message: string]
  | readonly ['notice', name: string, payload: unknown]
  | readonly ['ping']
  | readonly ['pong'];

const shapes: Readonly<Record<string, readonly string[]>> = {
  hello: ['string', 'number', 'any'],
  request: ['number', 'string', 'number', 'any', 'any'],
  cancel: ['number'],
  result: ['number', 'any'],
  error: ['number', 'object'],
  progress: ['number', 'string', 'string'],
  notice: ['string', 'any'],
  ping: [],
  pong: [],
};

/** The message, or null if `value` has none of the forms above. Contents are checked against the contract later. */
export function parseWireMessage(value: unknown): WireMessage | null {
  if (!Array.isArray(value) || typeof value[0] !== 'string') return null;
  const shape = Object.hasOwn(shapes, value[0]) ? shapes[value[0]] : undefined;
  if (shape === undefined || value.length !== shape.length + 1) return null;
  const parts = value as readonly unknown[];
  const hasShape = shape.every((type, index) => type === 'any' || typeof parts[index + 1] === type);
  return hasShape ? (value as unknown as WireMessage) : null;
}

/** Any thrown value in the form in which it crosses to another process. */
export function encodeError(error: unknown): WireError {
  const known = toBoxRunError(error);
  return { code: known.code, message: known.message, status: known.status, hint: known.hint ?? null };
}

/** The error that another process has sent. A code that this build does not know becomes RUNTIME_ERROR. */
export function decodeError(error: WireError): BoxRunError {
  const code = isErrorCode(error.code) ? error.code : 'RUNTIME_ERROR';
  return new BoxRunError(code, errorText(error.message), {
    status: Number(error.status) || 500,
    ...(typeof error.hint === 'string' ? { hint: error.hint } : {}),
  });
}
