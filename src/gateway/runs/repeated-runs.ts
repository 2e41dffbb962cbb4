// Runs with an Idempotency-Key. A repeated request gets the answer of the first one, also while the first one still
// runs at this gateway. At another gateway the supervisor refuses it with UNAVAILABLE until the first one has ended
// (known-requests.ts). The answer is stored before the box is removed, because the events of the box are gone
// afterwards. A run that broke off has no stored answer, so a repeated request runs the command again.
import type { KeyClaim } from '../../shared/contracts/writer.ts';
import { toBoxRunError } from '../../shared/errors.ts';
import { checkSameRequest } from '../../shared/request-key.ts';
import type { GatewayParts } from '../parts.ts';
import { parseOutput, type RunOutput } from './run-output.ts';

export interface RepeatedRuns {
  /**
   * Gives the answer of an earlier run with the same key. If there is none, it calls `run`.
   * @param claim the key and the hash of the request; undefined always calls `run`
   * @throws VALIDATION_ERROR when the key was used with another body, and the errors of `run`
   */
  once(claim: KeyClaim | undefined, run: () => Promise<RunOutput>): Promise<RunOutput>;
}

export function createRepeatedRuns({ rows }: Pick<GatewayParts, 'rows'>): RepeatedRuns {
  const running = new Map<string, { readonly bodyHash: string; readonly result: Promise<RunOutput> }>();

  async function storedAnswerOrRun(claim: KeyClaim, run: () => Promise<RunOutput>): Promise<RunOutput> {
    const known = await rows.knownKey(claim.scope, claim.key);
    if (known !== null) checkSameRequest(claim, known);
    const answer = known?.answer ?? null;
    return answer === null ? run() : parseOutput(answer);
  }

  return {
    async once(claim, run) {
      if (claim === undefined) return run();
      for (let first = running.get(claim.key); first !== undefined; first = running.get(claim.key)) {
        checkSameRequest(claim, first);
        const outcome = await first.result.catch(toBoxRunError);
        if (!(outcome instanceof Error)) return outcome;
        // The client of the first request closed its connection. It has most likely sent this request as a repetition,
        // so this request runs the command instead of failing, too.
        if (outcome.code !== 'CANCELED') throw outcome;
      }
      const result = storedAnswerOrRun(claim, run).finally(() => running.delete(claim.key));
      running.set(claim.key, { bodyHash: claim.bodyHash, result });
      return result;
    },
  };
}
