// The statements for the Idempotency-Keys of clients, which keep a repeated request from making a second row. A key is
// written in the same transaction as its row. Every function must be called inside a transaction of batch.ts.
import type { Database } from 'better-sqlite3';
import type { KeyClaim } from '../shared/contracts/writer.ts';
import { BoxRunError } from '../shared/errors.ts';
import { limits } from '../shared/limits.ts';

export interface KeyStatements {
  /** Stores the key for the row. @throws UNAVAILABLE when the key already belongs to another row */
  claimKey(claim: KeyClaim, rowId: string, at: string): void;
  /**
   * Stores the key for the row, unless it already belongs to another row. It does not throw: the row must be stored in
   * any case.
   */
  noteKey(claim: KeyClaim, rowId: string, at: string): void;
  /** Stores the answer to a run, because the row of its box is removed afterwards. */
  keepAnswer(scope: string, key: string, rowId: string, answer: string): void;
  /**
   * Removes the keys of a failed create or of a run without an answer, so that the client can try again. Must be called
   * before the row of the box is deleted.
   */
  releaseKeys(boxId: string): void;
  /**
   * Removes one slice of the keys that were stored by `before`: at most limits.keyCleanupSliceRows.
   * @returns how many keys it has removed
   */
  removeKeysBefore(before: string): number;
}

export function prepareKeyStatements(db: Database): KeyStatements {
  // A key older than limits.keyLifeMs has expired, so it may be replaced.
  const insert = db.prepare(
    `INSERT INTO idempotency (scope, key, body_hash, row_id, created_at) VALUES ($scope, $key, $bodyHash, $rowId, $at)
     ON CONFLICT (scope, key) DO UPDATE
       SET body_hash = $bodyHash, row_id = $rowId, created_at = $at, answer = NULL WHERE created_at <= $since`,
  );
  const rowOf = db.prepare('SELECT row_id FROM idempotency WHERE scope = ? AND key = ?').pluck();
  const keep = db.prepare('UPDATE idempotency SET answer = ? WHERE scope = ? AND key = ? AND row_id = ?');
  const release = db.prepare(
    `DELETE FROM idempotency WHERE row_id = $boxId AND answer IS NULL
       AND EXISTS (SELECT 1 FROM boxes WHERE id = $boxId AND (started_at IS NULL OR ephemeral = 1))`,
  );
  const remove = db.prepare(
    'DELETE FROM idempotency WHERE (scope, key) IN (SELECT scope, key FROM idempotency WHERE created_at <= ? LIMIT ?)',
  );
  const noteKey = ({ scope, key, bodyHash }: KeyClaim, rowId: string, at: string) => {
    const since = new Date(Date.parse(at) - limits.keyLifeMs).toISOString();
    insert.run({ scope, key, bodyHash, rowId, at, since });
  };
  return {
    noteKey,
    claimKey(claim, rowId, at) {
      noteKey(claim, rowId, at);
      if (rowOf.get(claim.scope, claim.key) === rowId) return;
      throw new BoxRunError('UNAVAILABLE', 'another request with this Idempotency-Key came first', {
        hint: 'send it again',
      });
    },
    keepAnswer(scope, key, rowId, answer) {
      keep.run(answer, scope, key, rowId);
    },
    releaseKeys(boxId) {
      release.run({ boxId });
    },
    removeKeysBefore: (before) => remove.run(before, limits.keyCleanupSliceRows).changes,
  };
}
