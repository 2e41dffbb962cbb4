// A request under a client's key (Idempotency-Key): what comes again under it must be the same request.
// Checked by the supervisor for boxes and commands, by the gateway for runs.
import { BoxRunError } from './errors.ts';

/** @throws VALIDATION_ERROR when the key was used for something else */
export function checkSameRequest(claim: { readonly bodyHash: string }, known: { readonly bodyHash: string }): void {
  if (claim.bodyHash === known.bodyHash) return;
  throw new BoxRunError('VALIDATION_ERROR', 'this Idempotency-Key was used with another body', {
    hint: 'use a new key for a new request',
  });
}
