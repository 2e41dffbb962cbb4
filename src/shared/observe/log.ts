// Logs: one line per event, as JSON or for people, on standard error, which the keeper and the supervisor point at
// files. Ids of boxes, execs, workers and requests are fields. Never the content of output, nor values of environment
// variables.
import { createRequire } from 'node:module';
import type prettyStream from 'pino-pretty';
import { pino, type DestinationStream, type Logger } from 'pino';
import type { LogFormat } from '../settings/config.ts';

export type { Logger } from 'pino';

export interface LoggerOptions {
  /** Stand on each line. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Instead of standard error. */
  readonly file?: string;
}

export interface LogSettings {
  readonly logLevel: string;
  readonly logFormat: LogFormat;
}

/** A logger for one process; `role` stands on each of its lines. */
export function createLogger(role: string, settings: LogSettings, options: LoggerOptions = {}): Logger {
  return createProcessLog(role, settings, options).log;
}

export interface ProcessLog {
  readonly log: Logger;
  /** From now on. Loggers that were made of this one before keep their level. */
  change(settings: LogSettings): void;
}

/** For a process that outlives whoever gave it its settings. */
export function createProcessLog(
  role: string,
  { logLevel, logFormat }: LogSettings,
  options: LoggerOptions = {},
): ProcessLog {
  const lines = pino.destination({ dest: options.file ?? 2, sync: true, mode: 0o600 });
  let formats: Partial<Record<LogFormat, DestinationStream>> = { json: lines };
  const streamFor = (format: LogFormat): DestinationStream => {
    const stream = formats[format] ?? forPeople(lines);
    formats = { ...formats, [format]: stream };
    return stream;
  };
  let stream = streamFor(logFormat);
  const destination: DestinationStream = {
    write: (line) => {
      stream.write(line);
    },
  };
  const log = pino({ level: logLevel, base: { role, pid: process.pid, ...options.fields } }, destination);
  return {
    log,
    change(settings) {
      log.level = settings.logLevel;
      stream = streamFor(settings.logFormat);
    },
  };
}

/** Loaded only where it is wanted. */
function forPeople(destination: DestinationStream): DestinationStream {
  const pretty = createRequire(import.meta.url)('pino-pretty') as typeof prettyStream;
  return pretty({
    destination,
    sync: true,
    colorize: false,
    translateTime: 'SYS:yyyy-mm-dd HH:MM:ss.l',
    singleLine: true,
  });
}

/**
 * What Node warns of (a listener added ever again, a promise that nobody waits for) goes into the log of the process.
 */
export function logWarnings(log: Logger): void {
  process.on('warning', (warning) => {
    log.warn({ err: warning }, 'a warning from Node');
  });
}
