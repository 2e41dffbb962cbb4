// The keys with which clients mark requests, so that a request which comes again makes nothing twice. A key is written
// in the transaction of the row that it stands for. Called by control.ts and statements.ts, inside a transaction of
// batch.ts.
import type { Database } from 'better-sqlite3';
import type { KeyClaim } from '../shared/contracts/writer.ts';
import { BoxRunError } from '../shared/errors.ts';
import { limits } from '../shared/limits.ts';

export interface KeyStatements {
  /** @throws UNAVAILABLE when the key stands for another row */
  claimKey(claim: KeyClaim, rowId: string, at: string): void;
  /** As claimKey, but a key that is taken stays as it is: for rows that are there whatever becomes of the key. */
  noteKey(claim: KeyClaim, rowId: string, at: string): void;
  keepAnswer(scope: string, key: string, rowId: string, answer: string): void;
  /**
   * Before a box is deleted: frees the keys of a create that failed and of a run that broke off, so that both can be
   * tried again.
   */
  freeKeys(boxId: string): void;
  /** One slice; how many they were. */
  removeKeysBefore(before: string): number;
}

export function prepareKeyStatements(db: Database): KeyStatements {
  // A key whose time is over is as good as none.
  const insert = db.prepare(
    `INSERT INTO idempotency (scope, key, body_hash, row_id, created_at) VALUES ($scope, $key, $bodyHash, $rowId, $at)
     ON CONFLICT (scope, key) DO UPDATE
       SET body_hash = $bodyHash, row_id = $rowId, created_at = $at, answer = NULL WHERE created_at <= $since`,
  );
  const rowOf = db.prepare('SELECT row_id FROM idempotency WHERE scope = ? AND key = ?').pluck();
  const keep = db.prepare('UPDATE idempotency SET answer = ? WHERE scope = ? AND key = ? AND row_id = ?');
  const free = db.prepare(
    `DELETE FROM idempotency WHERE row_id = $boxId AND answer IS NULL
       AND EXISTS (SELECT 1 FROM boxes WHERE id = $boxId AND (started_at IS NULL OR ephemeral = 1))`,
  );
  const forget = db.prepare(
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
    freeKeys(boxId) {
      free.run({ boxId });
    },
    removeKeysBefore: (before) => forget.run(before, limits.keySweepSliceRows).changes,
  };
}
