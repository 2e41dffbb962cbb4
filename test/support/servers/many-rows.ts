// Writes very many rows of commands directly into the database of a stopped server. Running that many commands would
// take hours.
import Database from 'better-sqlite3';
import { join } from 'node:path';
import type { TestServer } from './server.ts';
import { eventually } from '../runs/eventually.ts';
import { processesOf } from '../host/processes.ts';

export interface ManyRows {
  readonly box: string;
  readonly execs: number;
  /** The letter with which the ids of the commands begin. */
  readonly letter: string;
  /** The one argument of each command. */
  readonly argument?: string;
}

/**
 * The server must have no running box. Stops it, adds a stopped box with ended commands, and starts it again.
 */
export async function addManyExecs(
  server: TestServer,
  { box, execs, letter, argument = 'true' }: ManyRows,
): Promise<void> {
  await server.stop();
  await eventually('the writer is gone', async () => (await processesOf(server.stateDir)).length === 0, 20_000);
  const db = new Database(join(server.stateDir, 'boxrun.db'));
  try {
    const at = '2026-01-01T00:00:00.000Z';
    db.prepare(
      `INSERT INTO boxes (id, status, state, image, cpu, memory_mb, disk_size_gb, network, workdir, created_at,
                          stopped_at, driver, image_source)
       VALUES (?, 'stopped', 'stopped', 'base', 1, 64, 1, 0, '/root', ?, ?, 'container', '{"kind":"registry","reference":"base"}')`,
    ).run(box, at, at);
    // A hundred commands have the same time, so that only their order in the table can tell them apart.
    db.prepare(
      `INSERT INTO execs (id, box_id, status, cmd, exit_code, created_at, finished_at)
       WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < ?)
       SELECT printf('exec_%s%011d', ?, n), ?, 'succeeded', json_array(?), 0,
              strftime('%Y-%m-%dT%H:%M:%fZ', '2026-01-01', '+' || (n / 100) || ' seconds'), ?
       FROM numbers`,
    ).run(execs, letter, box, argument, at);
  } finally {
    db.close();
  }
  await server.start();
}

/** Returns the ids that `addManyExecs` makes, in the order of a list: newest first. */
export function idsOfManyExecs({ execs, letter }: ManyRows): string[] {
  return Array.from({ length: execs }, (_, index) => `exec_${letter}${String(execs - 1 - index).padStart(11, '0')}`);
}
