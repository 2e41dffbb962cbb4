// Logs: one JSON line per event on standard error, which the keeper and the supervisor point at files.
// Never the content of output, nor values of environment variables.
import { pino, type Logger } from 'pino';

export type { Logger } from 'pino';

export interface LoggerOptions {
  /** Stand on each line. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Instead of standard error. */
  readonly file?: string;
}

/** A logger for one process; `role` stands on each of its lines. */
export function createLogger(role: string, level: string, options: LoggerOptions = {}): Logger {
  const destination = pino.destination({ dest: options.file ?? 2, sync: true, mode: 0o600 });
  return pino({ level, base: { role, pid: process.pid, ...options.fields } }, destination);
}
