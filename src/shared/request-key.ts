// The check of an Idempotency-Key. A client may send a request again under the same key, but not a different request:
// the hash of the body must be the same.
import { BoxRunError } from './errors.ts';

/** @throws VALIDATION_ERROR if the key was used for a request with another body */
export function checkSameRequest(claim: { readonly bodyHash: string }, known: { readonly bodyHash: string }): void {
  if (claim.bodyHash === known.bodyHash) return;
  throw new BoxRunError('VALIDATION_ERROR', 'this Idempotency-Key was used with another body', {
    hint: 'use a new key for a new request',
  });
}
