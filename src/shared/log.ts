// Logs: one JSON line per event on standard error, which the keeper and the supervisor point at files.
// Never the content of output, nor values of environment variables.
import { pino, type Logger } from 'pino';

export type { Logger } from 'pino';

/** A logger for one process; `role` and the bound fields stand on each of its lines. */
export function createLogger(role: string, level: string, fields: Record<string, unknown> = {}): Logger {
  return pino({ level, base: { role, pid: process.pid, ...fields } }, pino.destination({ fd: 2, sync: true }));
}
