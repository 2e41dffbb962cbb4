// The Idempotency-Key header: a client that may have to send a request again marks it with a key of its own choice.
// Read by the routes that make something; what is under the key is remembered where the row is made.
import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import type { KeyClaim } from '../../shared/contracts/writer.ts';
import { BoxRunError } from '../../shared/errors.ts';
import { limits } from '../../shared/limits.ts';

/**
 * What the header claims for `body`, as it was understood; `undefined` without the header.
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

/** Two bodies that differ only in the order of their fields are the same request. */
function inKeyOrder(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
