// Reading the database: one read-only connection, short statements, no transaction left open.
// Used by the gateway's reader threads and by the supervisor; only the writer writes.
import Database from 'better-sqlite3';
import type { Box, Exec } from '../api.ts';
import { limits } from '../limits.ts';
import { prepareLists, type BoxFilter, type Lists, type Page, type PageRequest } from './lists.ts';
import { fromSql, publicBox, publicExec, type BoxRow, type EventRow, type ExecRow, type SqlRow } from './rows.ts';

export interface EventPage {
  readonly events: EventRow[];
  /** True when the page ended at its bound and more may follow. */
  readonly more: boolean;
}

export function bytesOf(events: readonly Pick<EventRow, 'data'>[]): number {
  return events.reduce((sum, { data }) => sum + data.length, 0);
}

/** A page of small events is itself small, however many those are: it may be copied, or read before it is needed. */
export function hasSmallEvents({ events }: EventPage): boolean {
  return bytesOf(events) <= events.length * limits.smallEventBytes;
}

/** What a client's key stands for. */
export interface KnownKey {
  readonly bodyHash: string;
  readonly rowId: string;
  /** The answer of a request whose row is gone by design. */
  readonly answer: string | null;
}

export interface Reader extends Pick<Lists, 'boxesEnd' | 'execsEnd'> {
  box(idOrName: string): Box | null;
  boxes(filter: BoxFilter, page: PageRequest): Page<Box>;
  /** Everything of every box, for the supervisor. */
  boxRows(): BoxRow[];
  /** Boxes that do not run, with commands that do. */
  boxesWithAdriftExecs(): string[];
  exec(boxIdOrName: string, execId: string): Exec | null;
  execs(boxId: string, page: PageRequest): Page<Exec>;
  /** Null when it was never used, or so long ago that it counts no more. */
  knownKey(scope: string, key: string): KnownKey | null;
  /** Which of these are execs of the box that have ended. */
  finishedAmong(boxId: string, execIds: readonly string[]): string[];
  /** Ids of the execs of a box that have ended, so many of the newest. */
  newestFinishedExecIds(boxId: string, countMax: number): string[];
  /** Events after `afterSeq` in order, up to the page bounds of limits.ts. */
  events(execId: string, afterSeq: number, bytesMax?: number): EventPage;
  close(): void;
}

/** Opens the database at `path`; it must exist. */
export function openReader(path: string): Reader {
  const db = new Database(path, { readonly: true, fileMustExist: true });
  db.pragma('busy_timeout = 5000');
  const byIdOrName = db.prepare('SELECT * FROM boxes WHERE id = $key OR name = $key LIMIT 1');
  const all = db.prepare('SELECT * FROM boxes ORDER BY created_at DESC, rowid DESC');
  const lists = prepareLists(db);
  const oneExec = db.prepare(
    `SELECT execs.* FROM execs JOIN boxes ON boxes.id = execs.box_id
     WHERE execs.id = $exec AND (boxes.id = $box OR boxes.name = $box)`,
  );
  const knownKey = db.prepare(
    `SELECT body_hash AS bodyHash, row_id AS rowId, answer FROM idempotency
     WHERE scope = ? AND key = ? AND created_at > ?`,
  );
  const adrift = db
    .prepare(
      `SELECT DISTINCT execs.box_id FROM execs JOIN boxes ON boxes.id = execs.box_id
     WHERE execs.status = 'running' AND boxes.state IN ('stopped', 'failed')`,
    )
    .pluck();
  const isFinished = db.prepare(`SELECT 1 FROM execs WHERE id = ? AND box_id = ? AND status <> 'running'`).pluck();
  const newestFinished = db
    .prepare(`SELECT id FROM execs WHERE box_id = ? AND status <> 'running' ORDER BY created_at DESC LIMIT ?`)
    .pluck();
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
    boxes(filter, page) {
      const { rows, next } = lists.boxes(filter, page);
      return { rows: rows.map((row) => publicBox(box(row))), next };
    },
    boxRows: () => all.all().map(box),
    boxesWithAdriftExecs: () => adrift.all() as string[],
    exec(boxIdOrName, execId) {
      const row = oneExec.get({ box: boxIdOrName, exec: execId });
      return row === undefined ? null : publicExec(exec(row));
    },
    boxesEnd: lists.boxesEnd,
    execsEnd: lists.execsEnd,
    execs(boxId, page) {
      const { rows, next } = lists.execs(boxId, page);
      return { rows: rows.map((row) => publicExec(exec(row))), next };
    },
    knownKey(scope, key) {
      const since = new Date(Date.now() - limits.keyLifeMs).toISOString();
      return (knownKey.get(scope, key, since) as KnownKey | undefined) ?? null;
    },
    finishedAmong: (boxId, execIds) => execIds.filter((id) => isFinished.get(id, boxId) !== undefined),
    newestFinishedExecIds: (boxId, countMax) => newestFinished.all(boxId, countMax) as string[],
    events(execId, afterSeq, bytesMax = limits.replayPageBytes) {
      const events: EventRow[] = [];
      let bytes = 0;
      for (const row of page.iterate(execId, afterSeq, limits.replayPageEvents)) {
        const event = row as EventRow;
        events.push(event);
        bytes += event.data.length;
        if (bytes >= bytesMax) return { events, more: true };
      }
      return { events, more: events.length === limits.replayPageEvents };
    },
    close() {
      db.close();
    },
  };
}
