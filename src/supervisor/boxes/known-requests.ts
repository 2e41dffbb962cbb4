// Requests with an Idempotency-Key, which a client may send again. A repeated request gets the result of the first one,
// also while the first one is still at work. The writer stores the keys; this file remembers only requests at work.
import type { Box } from '../../shared/api.ts';
import type { KeyClaim } from '../../shared/contracts/writer.ts';
import { BoxRunError, isErrorCode } from '../../shared/errors.ts';
import { checkSameRequest } from '../../shared/request-key.ts';
import type { Reader } from '../../shared/store/reader.ts';
import { publicBox } from '../../shared/store/rows.ts';
import type { SupervisedBox } from './box.ts';
import type { TimedExec } from '../workers/box-worker.ts';
import type { BoxRegistry } from './box-registry.ts';

export interface KnownRequestsDeps {
  readonly registry: BoxRegistry;
  readonly reader: Pick<Reader, 'exec' | 'knownKey'>;
}

export interface KnownRequests {
  /**
   * The box of an earlier create with the same key, or else the result of `make`.
   * @throws VALIDATION_ERROR when the key was used with another body; BOX_NOT_FOUND when that box has been removed
   */
  boxOnce(claim: KeyClaim | undefined, make: () => Promise<Box>): Promise<Box>;
  /**
   * The command of an earlier request with the same key in this box, or else the result of `make`. `make` gets the key
   * with the id of the box in its scope: another box may use the same key.
   * @throws VALIDATION_ERROR when the key was used with another body; EXEC_NOT_FOUND when that command is gone
   */
  execOnce(
    boxId: string,
    claim: KeyClaim | undefined,
    make: (claim: KeyClaim | undefined) => Promise<TimedExec>,
  ): Promise<TimedExec>;
  /**
   * Refuses a run whose key is known.
   * @throws UNAVAILABLE while the first run is at work: afterwards its answer is stored, or its key is free again.
   *   VALIDATION_ERROR when the key was used with another body
   */
  refuseSecondRun(claim: KeyClaim | undefined): void;
}

interface RequestAtWork {
  readonly bodyHash: string;
  readonly result: Promise<unknown>;
}

export function createKnownRequests({ registry, reader }: KnownRequestsDeps): KnownRequests {
  const atWork = new Map<string, RequestAtWork>();

  async function once<T>(
    claim: KeyClaim,
    recall: (rowId: string) => Promise<T | null>,
    make: () => Promise<T>,
  ): Promise<T> {
    const name = `${claim.scope} ${claim.key}`;
    const first = atWork.get(name);
    if (first !== undefined) {
      checkSameRequest(claim, first);
      return first.result as Promise<T>;
    }
    const result = recallOrMake(claim, recall, make);
    atWork.set(name, { bodyHash: claim.bodyHash, result });
    try {
      return await result;
    } finally {
      atWork.delete(name);
    }
  }

  async function recallOrMake<T>(
    claim: KeyClaim,
    recall: (rowId: string) => Promise<T | null>,
    make: () => Promise<T>,
  ): Promise<T> {
    for (;;) {
      const known = reader.knownKey(claim.scope, claim.key);
      if (known === null) return make();
      checkSameRequest(claim, known);
      const row = await recall(known.rowId);
      if (row !== null) return row;
    }
  }

  /** Null when the create has failed: the writer has released the key, or is about to. */
  async function recallBox({ scope, key }: KeyClaim, boxId: string): Promise<Box | null> {
    const box = registry.all().find(({ id }) => id === boxId);
    if (box === undefined) {
      if (reader.knownKey(scope, key)?.rowId !== boxId) return null;
      throw new BoxRunError('BOX_NOT_FOUND', `box ${boxId}, which was created under this key, has been removed`, {
        hint: 'use another Idempotency-Key for another box',
      });
    }
    if (!isBeingMadeOrRemoved(box)) return answerOf(box);
    // An earlier supervisor died while it created the box. This supervisor is removing it now.
    await box.settled();
    if (isBeingMadeOrRemoved(box)) throw new BoxRunError('UNAVAILABLE', `box ${boxId} is being created`);
    return null;
  }

  return {
    boxOnce: (claim, make) => (claim === undefined ? make() : once(claim, (boxId) => recallBox(claim, boxId), make)),
    execOnce(boxId, claim, make) {
      if (claim === undefined) return make(undefined);
      const own = { ...claim, scope: `${claim.scope} ${boxId}` };
      return once(
        own,
        async (execId) => {
          const exec = reader.exec(boxId, execId);
          if (exec !== null) return exec;
          throw new BoxRunError('EXEC_NOT_FOUND', `box ${boxId} has no command ${execId} any more`);
        },
        () => make(own),
      );
    },
    refuseSecondRun(claim) {
      const known = claim === undefined ? null : reader.knownKey(claim.scope, claim.key);
      if (claim === undefined || known === null) return;
      checkSameRequest(claim, known);
      throw new BoxRunError('UNAVAILABLE', 'a run with this Idempotency-Key is under way', {
        hint: 'send it again in a second',
      });
    },
  };
}

function isBeingMadeOrRemoved({ state }: SupervisedBox): boolean {
  return state === 'creating' || state === 'removing';
}

/**
 * A box in error that has never run is the rest of a failed create that could not be removed. Then the answer is the
 * error of that create.
 */
function answerOf({ row }: SupervisedBox): Box {
  if (row.started_at !== null || row.status !== 'error') return publicBox(row);
  const code = isErrorCode(row.error_code) ? row.error_code : 'RUNTIME_ERROR';
  throw new BoxRunError(code, row.error_message ?? `box ${row.id} could not be created`);
}
