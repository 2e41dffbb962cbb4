// Reading the database: one read-only connection, short statements, no transaction left open.
// Used by the gateway's reader threads and by the supervisor; only the writer writes.
import Database from 'better-sqlite3';
import type { Box, BoxStatus, Exec } from '../api.ts';
import { limits } from '../limits.ts';
import { fromSql, publicBox, publicExec, type BoxRow, type EventRow, type ExecRow, type SqlRow } from './rows.ts';

export interface EventPage {
  readonly events: EventRow[];
  /** True when the page ended at its bound and more may follow. */
  readonly more: boolean;
}

export interface Reader {
  box(idOrName: string): Box | null;
  boxes(status: BoxStatus | null): Box[];
  /** Everything of every box, for the supervisor. */
  boxRows(): BoxRow[];
  exec(boxIdOrName: string, execId: string): Exec | null;
  execs(boxId: string): Exec[];
  /** Ids of the execs of a box that have ended. */
  finishedExecIds(boxId: string): string[];
  /** Events after `afterSeq` in order, up to the page bounds of limits.ts. */
  events(execId: string, afterSeq: number): EventPage;
  close(): void;
}

/** Opens the database at `path`; it must exist. */
export function openReader(path: string): Reader {
  const db = new Database(path, { readonly: true, fileMustExist: true });
  db.pragma('busy_timeout = 5000');
  const byIdOrName = db.prepare('SELECT * FROM boxes WHERE id = $key OR name = $key LIMIT 1');
  const all = db.prepare('SELECT * FROM boxes ORDER BY created_at DESC, rowid DESC');
  const byStatus = db.prepare('SELECT * FROM boxes WHERE status = ? ORDER BY created_at DESC, rowid DESC');
  const oneExec = db.prepare(
    `SELECT execs.* FROM execs JOIN boxes ON boxes.id = execs.box_id
     WHERE execs.id = $exec AND (boxes.id = $box OR boxes.name = $box)`,
  );
  const boxExecs = db.prepare('SELECT * FROM execs WHERE box_id = ? ORDER BY created_at DESC, rowid DESC');
  const finished = db.prepare(`SELECT id FROM execs WHERE box_id = ? AND status <> 'running'`).pluck();
  const page = db.prepare(
    'SELECT seq, type, stream, data FROM events WHERE exec_id = ? AND seq > ? ORDER BY seq LIMIT ?',
  );
  const box = (row: unknown) => fromSql<BoxRow>(row as SqlRow);
  const exec = (row: unknown) => fromSql<ExecRow>(row as SqlRow);
  return {
    box(idOrName) {
      const row = byIdOrName.get({ key: idOrName });
      return row === undefined ? null : publicBox(box(row));
    },
    boxes(status) {
      return (status === null ? all.all() : byStatus.all(status)).map((row) => publicBox(box(row)));
    },
    boxRows: () => all.all().map(box),
    exec(boxIdOrName, execId) {
      const row = oneExec.get({ box: boxIdOrName, exec: execId });
      return row === undefined ? null : publicExec(exec(row));
    },
    execs: (boxId) => boxExecs.all(boxId).map((row) => publicExec(exec(row))),
    finishedExecIds: (boxId) => finished.all(boxId) as string[],
    events(execId, afterSeq) {
      const events: EventRow[] = [];
      let bytes = 0;
      for (const row of page.iterate(execId, afterSeq, limits.replayPageEvents)) {
        const event = row as EventRow;
        events.push(event);
        bytes += event.data.length;
        if (bytes >= limits.replayPageBytes) return { events, more: true };
      }
      return { events, more: events.length === limits.replayPageEvents };
    },
    close() {
      db.close();
    },
  };
}
