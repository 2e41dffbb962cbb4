// Opens a writer's database in a temporary directory, and makes rows to put into it.
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import {
  writerContract,
  type Event,
  type ExecChange,
  type WriterContract,
} from '../../../src/shared/contracts/writer.ts';
import { serveContract, type IpcServer } from '../../../src/shared/ipc/server.ts';
import { createMeters } from '../../../src/shared/observe/metrics.ts';
import type { BoxRow, ExecRow } from '../../../src/shared/store/rows.ts';
import { createBatch, type Batch } from '../../../src/writer/batch.ts';
import { createHandlers } from '../../../src/writer/control.ts';
import { openDatabase, type WriterDatabase } from '../../../src/writer/database.ts';
import { createFollowers } from '../../../src/writer/followers.ts';
import { createWriterMeters } from '../../../src/writer/meters.ts';
import { createStateLog } from '../../../src/writer/state-log.ts';
import { prepareStatements, type Statements } from '../../../src/writer/statements.ts';
import { quietLog, temporaryDirectory } from '../../support/runs/unit.ts';

export interface OpenWriter extends WriterDatabase {
  readonly path: string;
  readonly batch: Batch;
  readonly statements: Statements;
  /** The first column of the first row. */
  value(sql: string, ...parameters: unknown[]): unknown;
  rows(sql: string, ...parameters: unknown[]): Record<string, unknown>[];
}

export async function openWriter(path = join(temporaryDirectory(), 'boxrun.db')): Promise<OpenWriter> {
  const database = await openDatabase(path);
  let open = true;
  const close = () => {
    if (open) database.close();
    open = false;
  };
  onTestFinished(close);
  const { db } = database;
  return {
    ...database,
    path,
    close,
    batch: createBatch(db),
    statements: prepareStatements(db),
    value: (sql, ...parameters) =>
      db
        .prepare(sql)
        .pluck()
        .get(...parameters),
    rows: (sql, ...parameters) => db.prepare(sql).all(...parameters) as Record<string, unknown>[],
  };
}

export interface ServedWriter extends OpenWriter {
  readonly socketPath: string;
  readonly server: IpcServer<WriterContract>;
}

/** Serves the writer on its socket in this process. `socketPath` replaces the socket beside the database. */
export async function serveWriter(path?: string, socketPath?: string): Promise<ServedWriter> {
  const writer = await openWriter(path);
  const followers = createFollowers();
  const meters = createMeters('writer');
  const states = createStateLog();
  const listenPath = socketPath ?? join(dirname(writer.path), 'writer.sock');
  const server = await serveContract({
    path: listenPath,
    contract: writerContract,
    hello: () => ({ pid: process.pid, instanceId: writer.instanceId }),
    handlers: createHandlers({
      batch: writer.batch,
      statements: writer.statements,
      followers,
      states,
      meters,
      figures: createWriterMeters(meters, writer.batch),
      onSettings: () => undefined,
      onRetire: () => true,
    }),
    log: quietLog,
    onDisconnect: (peer) => {
      followers.removePeer(peer);
      states.unwatch(peer);
    },
  });
  onTestFinished(() => server.close());
  return { ...writer, socketPath: listenPath, server };
}

export function boxRow(change: Partial<BoxRow> = {}): BoxRow {
  return {
    id: 'box_aaaaaaaaaaaa',
    name: null,
    status: 'running',
    image: 'base',
    cpu: 1,
    memory_mb: 128,
    disk_size_gb: 1,
    network: false,
    workdir: '/root',
    env: { A: 'ä' },
    volumes: [{ host_path: '/x', guest_path: '/y', readonly: true }],
    boxlite_id: null,
    error_code: null,
    error_message: null,
    created_at: '2026-01-01T00:00:00.000Z',
    started_at: null,
    stopped_at: null,
    state: 'ready',
    generation: 1,
    ephemeral: false,
    driver: 'container',
    image_source: null,
    labels: null,
    ulimits: null,
    id_block: null,
    stop_grace_s: null,
    cpu_limit: null,
    ...change,
  };
}

export function execRow(change: Partial<ExecRow> = {}): ExecRow {
  return {
    id: 'exec_aaaaaaaaaaa',
    box_id: 'box_aaaaaaaaaaaa',
    status: 'running',
    cmd: ['echo', 'ü'],
    env: null,
    workdir: null,
    timeout_ms: null,
    exit_code: null,
    error_message: null,
    created_at: '2026-01-01T00:00:00.000Z',
    finished_at: null,
    generation: 1,
    ...change,
  };
}

export const insertExec = (change: Partial<ExecRow> = {}): ExecChange => ({ op: 'insert', exec: execRow(change) });

export const logEvent = (seq: number, text = `line ${seq}`): Event => ({
  seq,
  type: 'log',
  stream: 'stdout',
  data: Buffer.from(text),
});

export const addEvent = (execId: string, event: Event): ExecChange => ({
  op: 'event',
  execId,
  event,
  at: '2026-01-01T00:00:01.000Z',
});

export const finishExec = (execId: string): ExecChange => ({
  op: 'finish',
  execId,
  status: 'succeeded',
  exitCode: 0,
  errorMessage: null,
  at: '2026-01-01T00:00:02.000Z',
});
