// The Idempotency-Key header. A client marks a request with a key of its own choice, so that it can send the request
// again without making anything twice. This file only reads the header. The key is stored together with the row.
import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import type { KeyClaim } from '../../shared/contracts/writer.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';

/**
 * The key of the request together with a hash of its body; `undefined` without the header.
 * @param scope the kind of request: equal keys in different scopes are different keys
 * @param body the parsed body, with defaults filled in
 * @throws VALIDATION_ERROR for a key that is empty, too long, or not of visible ASCII characters
 */
export function claimOf(request: FastifyRequest, scope: string, body: object): KeyClaim | undefined {
  const key = request.headers['idempotency-key'];
  if (key === undefined) return undefined;
  if (typeof key !== 'string' || key.length > limits.keyLengthMax || !/^[\x21-\x7e]+$/.test(key)) {
    throw new BoxRunError(
      'VALIDATION_ERROR',
      `'Idempotency-Key' must be 1 to ${limits.keyLengthMax} visible ASCII characters`,
    );
  }
  const bodyHash = createHash('sha256').update(JSON.stringify(body, inKeyOrder)).digest('hex');
  return { scope, key, bodyHash };
}

/** A replacer for JSON.stringify that sorts the fields, so that their order does not change the hash. */
function inKeyOrder(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
