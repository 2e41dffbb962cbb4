// Writes a database as the Rust edition of BoxRun leaves it: its tables, times with nine digits and a zone, the same
// seq twice in one command, and commands that have no end.
import Database from 'better-sqlite3';

const schema = `
  PRAGMA journal_mode = WAL;
  CREATE TABLE boxes (
    id TEXT PRIMARY KEY, name TEXT UNIQUE, status TEXT NOT NULL DEFAULT 'creating', image TEXT NOT NULL, cpu INTEGER NOT NULL,
    memory_mb INTEGER NOT NULL, disk_size_gb INTEGER NOT NULL DEFAULT 8, network INTEGER NOT NULL DEFAULT 0, workdir TEXT NOT NULL,
    env TEXT, volumes TEXT, boxlite_id TEXT, error_code TEXT, error_message TEXT, created_at TEXT NOT NULL, started_at TEXT, stopped_at TEXT);
  CREATE TABLE execs (
    id TEXT PRIMARY KEY, box_id TEXT NOT NULL REFERENCES boxes (id), status TEXT NOT NULL DEFAULT 'running', cmd TEXT NOT NULL, env TEXT,
    workdir TEXT, timeout_ms INTEGER, exit_code INTEGER, error_message TEXT, created_at TEXT NOT NULL, finished_at TEXT);
  CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, exec_id TEXT NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL, stream TEXT, data TEXT NOT NULL,
    created_at TEXT NOT NULL);
  CREATE INDEX idx_events_exec_seq ON events (exec_id, seq);
`;

const time = (second: number) => `2025-03-04T05:06:${String(second).padStart(2, '0')}.123456789+02:00`;

/** Writes one box with each status. The running box has a command with each status. */
export function writeOtherEdition(path: string): void {
  const db = new Database(path);
  db.exec(schema);
  const box = db.prepare(`
    INSERT INTO boxes (id, name, status, image, cpu, memory_mb, network, workdir, env, volumes, boxlite_id, created_at, started_at)
    VALUES ($id, $name, $status, 'alpine:latest', 2, 1024, 1, '/root', $env, $volumes, 'Ab12', $at, $at)`);
  for (const [index, status] of ['running', 'stopped', 'creating', 'error'].entries()) {
    box.run({
      id: `box_${status.padEnd(12, '0')}`,
      name: index === 0 ? 'web' : null,
      status,
      at: time(index),
      env: index === 0 ? '{"COLOUR":"blue"}' : null,
      volumes:
        index === 0
          ? '[{"host_path":"/srv","guest_path":"/data"},{"host_path":"/a","guest_path":"/b","readonly":true}]'
          : null,
    });
  }
  const exec = db.prepare(`
    INSERT INTO execs (id, box_id, status, cmd, exit_code, error_message, created_at, finished_at)
    VALUES ($id, 'box_running00000', $status, '["sh","-c","make"]', $code, $message, $at, $finished)`);
  const event = db.prepare(
    'INSERT INTO events (exec_id, seq, type, stream, data, created_at) VALUES (?, ?, ?, ?, ?, ?)',
  );
  for (const [index, [status, code, message]] of (
    [
      ['succeeded', 0, null],
      ['failed', 3, null],
      ['canceled', null, null],
      ['running', null, null],
    ] as const
  ).entries()) {
    const id = `exec_${status.padEnd(12, '0')}`;
    exec.run({
      id,
      status,
      code,
      message,
      at: time(10 + index),
      finished: status === 'running' ? null : time(20 + index),
    });
    // In that edition stdout and stderr have their own numbers. So each seq is there twice, and the exit event can come
    // before the last output.
    event.run(id, 0, 'log', 'stdout', 'one ', time(12));
    event.run(id, 0, 'log', 'stderr', 'grün', time(12));
    if (code !== null) event.run(id, 1, 'exit', null, JSON.stringify({ exit_code: code }), time(13));
    event.run(id, 1, 'log', 'stdout', 'two', time(13));
  }
  event.run('exec_of_no_box', 0, 'log', 'stdout', 'nobody asks', time(14));
  db.close();
}
