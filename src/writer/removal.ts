// Deletes commands with their events: all those of one box, or those that ended long ago. Each call deletes one slice
// in the caller's transaction, with a limit of rows and of milliseconds, so that other changes do not wait for long. A
// slice also reads rows that it does not delete, but only until its time is over.
import type { Database } from 'better-sqlite3';
import { limits } from '../shared/limits.ts';

/** Where the next slice goes on. Null before the first slice, and after the last one. */
export type CleanupPosition = { readonly boxId: string; readonly createdAt: string; readonly rowid: number } | null;

export interface RemovalStatements {
  /** Deletes one slice of the commands of a box. Returns true when no command is left. */
  removeExecsSlice(boxId: string): boolean;
  /**
   * Deletes one slice of the commands of all boxes that ended by `before`.
   * @returns where the next slice goes on; null when no such command is left
   */
  removeExpiredSlice(before: string, from: CleanupPosition): CleanupPosition;
}

interface ExecRef {
  readonly rowid: number;
  readonly id: string;
  readonly createdAt: string;
  readonly finishedAt: string | null;
}

interface Slice {
  readonly isOver: () => boolean;
  noteEvents(rows: number): void;
  noteExec(): void;
}

/** A row holds up to limits.eventBytesMax of output. Deleting this many rows takes about a millisecond. */
const rowsPerStatement = 16;
const execsPerPage = 64;

function startSlice(execsMax: number): Slice {
  const endsAt = performance.now() + limits.deleteSliceMs;
  let rows = 0;
  let execs = 0;
  return {
    isOver: () => rows >= limits.deleteSliceRows || execs >= execsMax || performance.now() >= endsAt,
    noteEvents(more) {
      rows += more;
    },
    noteExec() {
      rows++;
      execs++;
    },
  };
}

export function prepareRemovals(db: Database): RemovalStatements {
  const columns = 'rowid, id, created_at AS createdAt, finished_at AS finishedAt';
  // Only the first columns of a row: the others lie behind its command, which can have many pages.
  const execsOf = db.prepare(`SELECT rowid, id FROM execs WHERE box_id = ? LIMIT ${execsPerPage}`);
  const createdBy = db.prepare(
    `SELECT ${columns} FROM execs
     WHERE box_id = $boxId AND created_at <= $before AND (created_at, rowid) > ($createdAt, $rowid)
     ORDER BY created_at, rowid LIMIT ${execsPerPage}`,
  );
  const nextBox = db.prepare('SELECT id FROM boxes WHERE id > ? ORDER BY id LIMIT 1').pluck();
  const deleteEvents = db.prepare(
    `DELETE FROM events WHERE id IN (SELECT id FROM events WHERE exec_id = ? LIMIT ${rowsPerStatement})`,
  );
  const deleteExec = db.prepare('DELETE FROM execs WHERE rowid = ?');

  /** Returns false when the slice was over before the whole command was deleted. */
  function removeExec({ id, rowid }: Pick<ExecRef, 'id' | 'rowid'>, slice: Slice): boolean {
    for (;;) {
      if (slice.isOver()) return false;
      const { changes } = deleteEvents.run(id);
      slice.noteEvents(changes);
      if (changes < rowsPerStatement) break;
    }
    deleteExec.run(rowid);
    slice.noteExec();
    return true;
  }

  return {
    removeExecsSlice(boxId) {
      const slice = startSlice(limits.deleteSliceRows);
      for (;;) {
        const page = execsOf.all(boxId) as Pick<ExecRef, 'id' | 'rowid'>[];
        if (page.length === 0) return true;
        if (!page.every((exec) => removeExec(exec, slice))) return false;
      }
    },
    removeExpiredSlice(before, from) {
      const slice = startSlice(limits.cleanupSliceExecs);
      let position = from;
      for (let looks = 0; ; looks++) {
        if (looks > 0 && slice.isOver()) return position;
        const page = position === null ? [] : (createdBy.all({ ...position, before }) as ExecRef[]);
        if (page.length === 0) {
          const boxId = nextBox.get(position?.boxId ?? '') as string | undefined;
          if (boxId === undefined) return null;
          position = { boxId, createdAt: '', rowid: 0 };
          continue;
        }
        for (const exec of page) {
          const isExpired = exec.finishedAt !== null && exec.finishedAt <= before;
          if (isExpired && !removeExec(exec, slice)) return position;
          position = { boxId: position?.boxId ?? '', createdAt: exec.createdAt, rowid: exec.rowid };
        }
      }
    },
  };
}
