// Requests that a client has marked with a key, so that it can send them again: whatever comes a second time gets what
// the first one made, also while that is still being made. control.ts asks before it makes anything; the keys
// themselves are the writer's.
import type { Box } from '../../shared/api.ts';
import type { KeyClaim } from '../../shared/contracts/writer.ts';
import { BoxRunError, isErrorCode } from '../../shared/errors.ts';
import { checkSameRequest } from '../../shared/request-key.ts';
import type { Reader } from '../../shared/store/reader.ts';
import { publicBox } from '../../shared/store/rows.ts';
import type { SupervisedBox } from '../boxes/box.ts';
import type { TimedExec } from '../workers/box-worker.ts';
import type { BoxRegistry } from '../boxes/box-registry.ts';

export interface KnownRequestsDeps {
  readonly registry: BoxRegistry;
  readonly reader: Pick<Reader, 'exec' | 'knownKey'>;
}

export interface KnownRequests {
  /** The box of an earlier create under `claim`, or what `make` makes. */
  boxOnce(claim: KeyClaim | undefined, make: () => Promise<Box>): Promise<Box>;
  execOnce(
    boxId: string,
    claim: KeyClaim | undefined,
    make: (claim: KeyClaim | undefined) => Promise<TimedExec>,
  ): Promise<TimedExec>;
  /** @throws UNAVAILABLE while a run under `claim` is under way: its answer will be kept, or its key be free again */
  refuseSecondRun(claim: KeyClaim | undefined): void;
}

interface UnderWay {
  readonly bodyHash: string;
  readonly result: Promise<unknown>;
}

export function createKnownRequests({ registry, reader }: KnownRequestsDeps): KnownRequests {
  const underWay = new Map<string, UnderWay>();

  async function once<T>(
    claim: KeyClaim,
    recall: (rowId: string) => Promise<T | null>,
    make: () => Promise<T>,
  ): Promise<T> {
    const name = `${claim.scope} ${claim.key}`;
    const first = underWay.get(name);
    if (first !== undefined) {
      checkSameRequest(claim, first);
      return first.result as Promise<T>;
    }
    const result = recallOrMake(claim, recall, make);
    underWay.set(name, { bodyHash: claim.bodyHash, result });
    try {
      return await result;
    } finally {
      underWay.delete(name);
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

  /** Null when there is nothing to recall any more: a create that failed has freed its key. */
  async function recallBox({ scope, key }: KeyClaim, boxId: string): Promise<Box | null> {
    const box = registry.all().find(({ id }) => id === boxId);
    if (box === undefined) {
      if (reader.knownKey(scope, key)?.rowId !== boxId) return null;
      throw new BoxRunError('BOX_NOT_FOUND', `box ${boxId}, which was created under this key, has been removed`, {
        hint: 'use another Idempotency-Key for another box',
      });
    }
    if (!isMoving(box)) return answerOf(box);
    // Of a supervisor that died while it made the box: this one is just removing it.
    await box.settled();
    if (isMoving(box)) throw new BoxRunError('UNAVAILABLE', `box ${boxId} is being created`);
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

function isMoving({ state }: SupervisedBox): boolean {
  return state === 'creating' || state === 'removing';
}

/** A box that was never up stays only where a failed create could not be undone: the answer is that failure. */
function answerOf({ row }: SupervisedBox): Box {
  if (row.started_at !== null || row.status !== 'error') return publicBox(row);
  const code = isErrorCode(row.error_code) ? row.error_code : 'RUNTIME_ERROR';
  throw new BoxRunError(code, row.error_message ?? `box ${row.id} could not be created`);
}
