// Runs under a client's key: one that comes again gets the answer of the first, also while that is under way. A run's
// box and events are gone when it ends, so its answer is kept by itself, before the box goes. A run that broke off may
// be run again.
import type { KeyClaim } from '../../shared/contracts/writer.ts';
import { toBoxRunError } from '../../shared/errors.ts';
import { checkSameRequest } from '../../shared/request-key.ts';
import type { GatewayParts } from '../parts.ts';
import { parseOutput, type RunOutput } from './run-output.ts';

export interface RepeatedRuns {
  /** The answer to an earlier run under `claim`, or that of `run`. */
  once(claim: KeyClaim | undefined, run: () => Promise<RunOutput>): Promise<RunOutput>;
}

export function createRepeatedRuns({ rows }: Pick<GatewayParts, 'rows'>): RepeatedRuns {
  const underWay = new Map<string, { readonly bodyHash: string; readonly result: Promise<RunOutput> }>();

  async function recallOrRun(claim: KeyClaim, run: () => Promise<RunOutput>): Promise<RunOutput> {
    const known = await rows.knownKey(claim.scope, claim.key);
    if (known !== null) checkSameRequest(claim, known);
    const answer = known?.answer ?? null;
    return answer === null ? run() : parseOutput(answer);
  }

  return {
    async once(claim, run) {
      if (claim === undefined) return run();
      for (let first = underWay.get(claim.key); first !== undefined; first = underWay.get(claim.key)) {
        checkSameRequest(claim, first);
        const outcome = await first.result.catch(toBoxRunError);
        if (!(outcome instanceof Error)) return outcome;
        // The first client has left, which is no answer for this one: most likely it is the same client, come again.
        if (outcome.code !== 'CANCELED') throw outcome;
      }
      const result = recallOrRun(claim, run).finally(() => underWay.delete(claim.key));
      underWay.set(claim.key, { bodyHash: claim.bodyHash, result });
      return result;
    },
  };
}
