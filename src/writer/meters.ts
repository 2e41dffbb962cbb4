// The metrics of the writer. Only the writer knows what is committed, so it counts commands, events and bytes.
// Everything is counted after its commit, so a change that a client sends twice counts once.
import type { Meters } from '../shared/observe/metrics.ts';
import type { AppliedChange } from './statements.ts';
import type { Batch } from './batch.ts';

export interface WriterMeters {
  /** Counts committed changes. */
  applied(changes: readonly AppliedChange[]): void;
  /** Counts commands that have been ended because their worker was lost. */
  cutShort(execs: number): void;
}

export function createWriterMeters(meters: Meters, batch: Batch): WriterMeters {
  const started = meters.counter('execs_started_total', 'Commands whose row is committed.');
  const finished = meters.counter('execs_finished_total', 'Commands that have ended, by how.', ['status']);
  const seconds = meters.histogram('exec_seconds', 'Commands from their row to their end.', ['status']);
  const events = meters.counter('events_written_total', 'Events committed.');
  const bytes = meters.counter('output_bytes_written_total', 'Bytes of output committed.');
  const cut = meters.counter(
    'execs_cut_short_total',
    'Commands ended with their worker: output after the seq that their exit event names may be missing.',
  );
  for (const status of ['succeeded', 'failed', 'canceled']) finished.inc({ status }, 0);
  meters.gauge('commits', 'Group commits since the writer started, and those that failed.', ['result'], (gauge) => {
    gauge.set({ result: 'done' }, batch.figures.done);
    gauge.set({ result: 'failed' }, batch.figures.failed);
  });
  meters.gauge('queue_depth', 'What waits in the queues of the server, by queue.', ['queue'], (gauge) => {
    gauge.set({ queue: 'writer_changes' }, batch.figures.waiting);
  });

  return {
    applied(changes) {
      for (const { change, state } of changes) {
        if (change.op === 'insert') started.inc();
        else if (change.op === 'finish' && state?.kind === 'exec.finished') {
          const { status } = change;
          finished.inc({ status });
          seconds.observe({ status }, Math.max(0, (Date.parse(change.at) - Date.parse(state.exec.created_at)) / 1000));
        } else if (change.op === 'event') {
          events.inc();
          if (change.event.type === 'log') bytes.inc(change.event.data.length);
        }
      }
    },
    cutShort(execs) {
      cut.inc(execs);
      events.inc(execs);
      finished.inc({ status: 'failed' }, execs);
    },
  };
}
