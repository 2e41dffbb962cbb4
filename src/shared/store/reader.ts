// Reads the database over one read-only connection. The reader threads of the gateway, the supervisor, and the debug
// bundle open one; workers never read the database. Every call is one or a few short statements, and leaves no
// transaction open.
import Database from 'better-sqlite3';
import type { Box, Exec } from '../api.ts';
import { limits } from '../limits.ts';
import { prepareLists, type BoxFilter, type Lists, type Page, type PageRequest } from './lists.ts';
import { fromSql, publicBox, publicExec, type BoxRow, type EventRow, type ExecRow, type SqlRow } from './rows.ts';

export interface EventPage {
  readonly events: EventRow[];
  /** True if the page ended at its maximum, so that there may be more events. */
  readonly more: boolean;
}

export function bytesOf(events: readonly Pick<EventRow, 'data'>[]): number {
  return events.reduce((sum, { data }) => sum + data.length, 0);
}

/** True if the events of a page are small on average. Such a page is small too, so it may be copied or read ahead. */
export function hasSmallEvents({ events }: EventPage): boolean {
  return bytesOf(events) <= events.length * limits.smallEventBytes;
}

/** The request that a client has marked with a key. */
export interface KnownKey {
  readonly bodyHash: string;
  readonly rowId: string;
  /**
   * The stored answer of a run. Its box is removed at the end, so its rows cannot give the answer to a repeated
   * request.
   */
  readonly answer: string | null;
}

/** A running command, and what is committed of it. */
export interface CommittedExec {
  readonly exec: Exec;
  /** The seq of the next output event. */
  readonly nextSeq: number;
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
}

export interface Reader extends Pick<Lists, 'boxesEnd' | 'execsEnd'> {
  box(idOrName: string): Box | null;
  boxes(filter: BoxFilter, page: PageRequest): Page<Box>;
  /** All boxes with all columns. */
  boxRows(): BoxRow[];
  /** Ids of boxes that are stopped or failed, but have commands whose rows say running. */
  boxesWithRunningRows(): string[];
  exec(boxIdOrName: string, execId: string): Exec | null;
  execs(boxId: string, page: PageRequest): Page<Exec>;
  /** Null if the key is unknown, or older than limits.keyLifeMs. */
  knownKey(scope: string, key: string): KnownKey | null;
  /** The ids in `execIds` that belong to ended commands of the box. */
  finishedAmong(boxId: string, execIds: readonly string[]): string[];
  /** Those of `execIds` that are running commands of the box, with what is committed of each. */
  resumable(boxId: string, execIds: readonly string[]): CommittedExec[];
  /** The ids of the `countMax` newest ended commands of a box. */
  newestFinishedExecIds(boxId: string, countMax: number): string[];
  /** A page of the events after `afterSeq`, in order. It ends with the event that reaches `bytesMax`. */
  events(execId: string, afterSeq: number, bytesMax?: number): EventPage;
  /** The seq behind which the newest events of a command have at most `bytesMax` bytes; -1 for all events. */
  scrollbackAfter(execId: string, bytesMax: number): number;
  close(): void;
}

/** Opens the database at `path`. @throws an SQLite error if the file does not exist */
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
  const withRunningRows = db
    .prepare(
      `SELECT DISTINCT execs.box_id FROM execs JOIN boxes ON boxes.id = execs.box_id
     WHERE execs.status = 'running' AND boxes.state IN ('stopped', 'failed')`,
    )
    .pluck();
  const isFinished = db.prepare(`SELECT 1 FROM execs WHERE id = ? AND box_id = ? AND status <> 'running'`).pluck();
  const newestFinished = db
    .prepare(`SELECT id FROM execs WHERE box_id = ? AND status <> 'running' ORDER BY created_at DESC LIMIT ?`)
    .pluck();
  const running = db.prepare(`SELECT * FROM execs WHERE id = ? AND box_id = ? AND status = 'running'`);
  const committed = db.prepare(
    `SELECT coalesce(max(seq), -1) + 1 AS nextSeq,
       coalesce(sum(CASE stream WHEN 'stdout' THEN length(data) END), 0) AS stdoutBytes,
       coalesce(sum(CASE stream WHEN 'stderr' THEN length(data) END), 0) AS stderrBytes
     FROM events WHERE exec_id = ?`,
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
    boxesWithRunningRows: () => withRunningRows.all() as string[],
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
    resumable: (boxId, execIds) =>
      execIds.flatMap((id) => {
        const row = running.get(id, boxId);
        if (row === undefined) return [];
        const kept = committed.get(id) as Omit<CommittedExec, 'exec'>;
        const { trimmed_bytes: trimmed, ...found } = exec(row);
        // All output of a detachable terminal is stdout.
        return [{ exec: publicExec(found), ...kept, stdoutBytes: kept.stdoutBytes + (trimmed ?? 0) }];
      }),
    newestFinishedExecIds: (boxId, countMax) => newestFinished.all(boxId, countMax) as string[],
    ...prepareEvents(db),
    close() {
      db.close();
    },
  };
}

function prepareEvents(db: Database.Database): Pick<Reader, 'events' | 'scrollbackAfter'> {
  const page = db.prepare(
    'SELECT seq, type, stream, data FROM events WHERE exec_id = ? AND seq > ? ORDER BY seq LIMIT ?',
  );
  const newestFirst = db.prepare('SELECT seq, length(data) AS bytes FROM events WHERE exec_id = ? ORDER BY seq DESC');
  return {
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
    scrollbackAfter(execId, bytesMax) {
      let bytes = 0;
      for (const row of newestFirst.iterate(execId)) {
        const event = row as { seq: number; bytes: number };
        bytes += event.bytes;
        if (bytes > bytesMax) return event.seq;
      }
      return -1;
    },
  };
}
