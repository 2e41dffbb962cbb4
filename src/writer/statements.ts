// All changes to the database, as functions over prepared statements. Each must be called inside a transaction of
// batch.ts. A repeated call changes nothing more, because clients repeat a change that was not acknowledged.
import type { Database } from 'better-sqlite3';
import type { Box, Exec } from '../shared/api.ts';
import type { BoxChange, Event, ExecChange } from '../shared/contracts/writer.ts';
import { BoxRunError } from '../shared/errors.ts';
import { prepareKeyStatements, type KeyStatements } from './keys.ts';
import { prepareRemovals, type RemovalStatements } from './removal.ts';
import { exitEventData } from '../shared/lifecycle/exec.ts';
import {
  BoxRow,
  ExecRow,
  fromSql,
  publicBox,
  publicExec,
  publicBoxFields,
  toSql,
  type SqlRow,
} from '../shared/store/rows.ts';
import type { StateChange } from './state-log.ts';

export interface Statements extends KeyStatements, Pick<RemovalStatements, 'removeExpiredSlice'> {
  /**
   * @returns the new box as clients see it; null when the row already existed
   * @throws NAME_ALREADY_EXISTS when another box has the name
   */
  insertBox(box: BoxRow): Box | null;
  /**
   * @returns the changed box as clients see it; null when clients see no change
   * @throws BOX_NOT_FOUND
   */
  updateBox(boxId: string, change: BoxChange): Box | null;
  /**
   * Deletes one slice of the box and its commands.
   * @returns `isDone` when nothing of the box is left; `removed` is the last state of the box, in the slice that
   *   deletes its row
   */
  removeBoxSlice(boxId: string): { isDone: boolean; removed: Box | null };
  /**
   * Makes `generation` the present one of the box.
   * @throws BOX_NOT_FOUND; CANCELED when the box has a higher generation
   */
  openLease(boxId: string, generation: number): void;
  /**
   * Makes sure that no worker of `generation` can change anything, and ends its unfinished commands as failed.
   * @param reason stands in the error message of these commands
   * @returns the ended commands with their exit events
   */
  closeLease(boxId: string, generation: number, reason: string, at: string): EndedExec[];
  /** Puts unfinished commands under `generation`, so that closing an older one does not end them. */
  keepExecs(boxId: string, generation: number, execIds: readonly string[]): void;
  /** @throws CANCELED when `generation` is not the present one of the box */
  checkLease(boxId: string, generation: number): void;
  /** @returns null when the same change was made before */
  changeExec(change: ExecChange): AppliedChange | null;
  /** The seq of the newest output event; -1 when there is none. */
  lastSeq(execId: string): number;
  /** Writes a row without a meaning, to find out whether the database can be written. */
  writeTestRow(): void;
}

export interface EndedExec {
  readonly exec: Exec;
  readonly event: Event;
  /** Null for an internal command. */
  readonly state: StateChange | null;
}

export interface AppliedChange {
  readonly change: ExecChange;
  /** The state event for clients; null for output, and for internal commands. */
  readonly state: StateChange | null;
}

const insertInto = (table: string, columns: readonly string[]) =>
  `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map((name) => `$${name}`).join(', ')})`;

export function prepareStatements(db: Database): Statements {
  const keys = prepareKeyStatements(db);
  const removals = prepareRemovals(db);
  const writeTestRow = db.prepare(
    `INSERT INTO meta (key, value) VALUES ('tried_out', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
  );
  return {
    ...keys,
    ...boxStatements(db, keys, removals),
    ...leaseStatements(db),
    ...execStatements(db, keys),
    removeExpiredSlice: removals.removeExpiredSlice,
    writeTestRow: () => {
      writeTestRow.run(new Date().toISOString());
    },
  };
}

function boxStatements(db: Database, keys: KeyStatements, removals: RemovalStatements) {
  const insert = db.prepare(`${insertInto('boxes', Object.keys(BoxRow.properties))} ON CONFLICT (id) DO NOTHING`);
  // A supervisor of the previous version does not send columns that it does not know.
  const emptyRow = Object.fromEntries(Object.keys(BoxRow.properties).map((name) => [name, null]));
  const nameOwner = db.prepare('SELECT id FROM boxes WHERE name = ?').pluck();
  const deleteBox = db.prepare('DELETE FROM boxes WHERE id = ? RETURNING *');
  const publicOf = (row: unknown) => publicBox(fromSql<BoxRow>(row as SqlRow));
  return {
    insertBox(box: BoxRow) {
      const owner = box.name === null ? undefined : (nameOwner.get(box.name) as string | undefined);
      if (owner !== undefined && owner !== box.id) {
        throw new BoxRunError('NAME_ALREADY_EXISTS', `the name '${box.name ?? ''}' is taken by ${owner}`);
      }
      return insert.run({ ...emptyRow, ...toSql(box) }).changes === 0 ? null : publicBox(box);
    },
    updateBox(boxId: string, change: BoxChange) {
      const columns = Object.keys(change).filter((name) => Object.hasOwn(BoxRow.properties, name));
      if (columns.length === 0) return null;
      const assignments = columns.map((name) => `${name} = $${name}`).join(', ');
      const row = db
        .prepare(`UPDATE boxes SET ${assignments} WHERE id = $id RETURNING *`)
        .get({ ...toSql(change), id: boxId });
      if (row === undefined) throw new BoxRunError('BOX_NOT_FOUND', `there is no box ${boxId}`);
      return columns.some((name) => publicBoxFields.has(name)) ? publicOf(row) : null;
    },
    removeBoxSlice(boxId: string) {
      if (!removals.removeExecsSlice(boxId)) return { isDone: false, removed: null };
      keys.releaseKeys(boxId);
      const row = deleteBox.get(boxId);
      return { isDone: true, removed: row === undefined ? null : publicOf(row) };
    },
  };
}

function leaseStatements(db: Database) {
  const generationOf = db.prepare('SELECT generation FROM boxes WHERE id = ?').pluck();
  const raise = db.prepare('UPDATE boxes SET generation = $generation WHERE id = $id AND generation < $generation');
  const unfinished = db
    .prepare(`SELECT id FROM execs WHERE box_id = ? AND status = 'running' AND generation <= ?`)
    .pluck();
  const keep = db.prepare(
    `UPDATE execs SET generation = ? WHERE id = ? AND box_id = ? AND status = 'running' AND generation < ?`,
  );
  const lastSeqOf = db.prepare('SELECT max(seq) FROM events WHERE exec_id = ?').pluck();
  const insertEvent = db.prepare(insertInto('events', ['exec_id', 'seq', 'type', 'stream', 'data', 'created_at']));
  const fail = db.prepare(
    `UPDATE execs SET status = 'failed', error_message = ?, finished_at = ? WHERE id = ? AND status = 'running' RETURNING *`,
  );
  const lastSeq = (execId: string) => (lastSeqOf.get(execId) as number | null) ?? -1;
  return {
    lastSeq,
    openLease(boxId: string, generation: number) {
      const found = generationOf.get(boxId) as number | undefined;
      if (found === undefined) throw new BoxRunError('BOX_NOT_FOUND', `there is no box ${boxId}`);
      if (found > generation) throw new BoxRunError('CANCELED', `generation ${generation} of ${boxId} is over`);
      raise.run({ id: boxId, generation });
    },
    keepExecs(boxId: string, generation: number, execIds: readonly string[]) {
      for (const execId of execIds) keep.run(generation, execId, boxId, generation);
    },
    closeLease(boxId: string, generation: number, reason: string, at: string) {
      raise.run({ id: boxId, generation: generation + 1 });
      return (unfinished.all(boxId, generation) as string[]).map((execId) => {
        const seq = lastSeq(execId) + 1;
        const errorMessage = `${reason}; output after seq ${seq - 1} may be missing`;
        const text = exitEventData({ exitCode: null, errorMessage, canceled: false });
        const data = Buffer.from(text);
        insertEvent.run({ exec_id: execId, seq, type: 'exit', stream: null, data, created_at: at });
        const row = fromSql<ExecRow>(fail.get(errorMessage, at, execId) as SqlRow);
        const event = { seq, type: 'exit' as const, stream: null, data };
        return { exec: publicExec(row), event, state: stateOf('exec.finished', row) };
      });
    },
    checkLease(boxId: string, generation: number) {
      const found = generationOf.get(boxId) as number | undefined;
      if (found !== generation) {
        throw new BoxRunError('CANCELED', `generation ${generation} of ${boxId} is over (now ${found ?? 'removed'})`);
      }
    },
  };
}

function execStatements(db: Database, keys: KeyStatements) {
  const insertExec = db.prepare(`${insertInto('execs', Object.keys(ExecRow.properties))} ON CONFLICT (id) DO NOTHING`);
  // A worker of the previous version does not send columns that it does not know.
  const emptyRow = Object.fromEntries(Object.keys(ExecRow.properties).map((name) => [name, null]));
  const insertEvent = db.prepare(
    `${insertInto('events', ['exec_id', 'seq', 'type', 'stream', 'data', 'created_at'])}
     ON CONFLICT (exec_id, seq) DO NOTHING`,
  );
  const finish = db.prepare(
    `UPDATE execs SET status = $status, exit_code = $exitCode, error_message = $errorMessage, finished_at = $at,
       usage = $usage
     WHERE id = $execId AND status = 'running' RETURNING *`,
  );
  const removeOutput = db
    .prepare(`DELETE FROM events WHERE exec_id = ? AND seq < ? AND type = 'log' RETURNING length(data)`)
    .pluck();
  const countRemoved = db.prepare('UPDATE execs SET trimmed_bytes = coalesce(trimmed_bytes, 0) + ? WHERE id = ?');
  return {
    changeExec(change: ExecChange): AppliedChange | null {
      if (change.op === 'insert') {
        const { changes } = insertExec.run({ ...emptyRow, ...toSql(change.exec) });
        if (change.claim !== undefined) keys.noteKey(change.claim, change.exec.id, change.exec.created_at);
        return changes === 0 ? null : { change, state: stateOf('exec.started', change.exec) };
      }
      if (change.op === 'event') {
        const { seq, type, stream, data } = change.event;
        const { changes } = insertEvent.run({ exec_id: change.execId, seq, type, stream, data, created_at: change.at });
        return changes === 0 ? null : { change, state: null };
      }
      if (change.op === 'trim') {
        const removed = removeOutput.all(change.execId, change.beforeSeq) as number[];
        countRemoved.run(
          removed.reduce((sum, bytes) => sum + bytes, 0),
          change.execId,
        );
        return null;
      }
      const { execId, status, exitCode, errorMessage, usage, at } = change;
      const row = finish.get({ execId, status, exitCode, errorMessage, at, ...toSql({ usage }) }) as SqlRow | undefined;
      return row === undefined ? null : { change, state: stateOf('exec.finished', fromSql<ExecRow>(row)) };
    },
  };
}

/** Null for an internal command: clients do not hear of it. */
function stateOf(kind: 'exec.started' | 'exec.finished', row: ExecRow): StateChange | null {
  return row.internal === true ? null : { kind, exec: publicExec(row) };
}
