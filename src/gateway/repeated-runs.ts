// Runs under a client's key: one that comes again gets the answer of the first, also while that is under way. A run's
// box and events are gone when it ends, so its answer is kept by itself, before the box goes. A run that broke off may
// be run again.
import type { RunResult } from '../shared/api.ts';
import type { KeyClaim } from '../shared/contracts/writer.ts';
import { toBoxRunError } from '../shared/errors.ts';
import { limits } from '../shared/limits.ts';
import { checkSameRequest } from '../shared/request-key.ts';
import { createOutputText } from './output-text.ts';
import type { GatewayParts } from './parts.ts';

export interface RepeatedRuns {
  /** The answer to an earlier run under `claim`, or that of `run`. */
  once(claim: KeyClaim | undefined, run: () => Promise<RunResult>): Promise<RunResult>;
}

export function createRepeatedRuns({ rows }: Pick<GatewayParts, 'rows'>): RepeatedRuns {
  const underWay = new Map<string, { readonly bodyHash: string; readonly result: Promise<RunResult> }>();

  async function recallOrRun(claim: KeyClaim, run: () => Promise<RunResult>): Promise<RunResult> {
    const known = await rows.knownKey(claim.scope, claim.key);
    if (known !== null) checkSameRequest(claim, known);
    const answer = known?.answer ?? null;
    return answer === null ? run() : (JSON.parse(answer) as RunResult);
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

/** A run's answer as it is kept: long output is cut, and says so. */
export function keptAnswer(result: RunResult): string {
  return JSON.stringify({ ...result, stdout: keptText(result.stdout), stderr: keptText(result.stderr) });
}

function keptText(text: string): string {
  const kept = createOutputText(limits.keptOutputBytesMax);
  kept.add(Buffer.from(text));
  return kept.text();
}
