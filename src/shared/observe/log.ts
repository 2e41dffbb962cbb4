// The log of a process: one line per entry, as JSON or for people, on standard error. A parent points the standard
// error of a child at a log file. Ids of boxes, execs, workers and requests are fields. A line never contains output of
// commands or values of environment variables.
import { createRequire } from 'node:module';
import type prettyStream from 'pino-pretty';
import { pino, type DestinationStream, type Logger } from 'pino';
import type { LogFormat } from '../settings/config.ts';

export type { Logger } from 'pino';

export interface LoggerOptions {
  /** Fields that are added to each line. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** The file to write to, instead of standard error. */
  readonly file?: string;
}

export interface LogSettings {
  readonly logLevel: string;
  readonly logFormat: LogFormat;
}

/** Makes the logger of one process. Each line has the field `role`. */
export function createLogger(role: string, settings: LogSettings, options: LoggerOptions = {}): Logger {
  return createProcessLog(role, settings, options).log;
}

export interface ProcessLog {
  readonly log: Logger;
  /** Changes level and format from now on. Child loggers that exist already keep their level. */
  change(settings: LogSettings): void;
}

/** Makes a log whose settings can change. Writer and worker need that, because they can outlive their `serve`. */
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

/** Loads pino-pretty only here, because most processes log as JSON. */
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

/** Writes the warnings of Node to the log of the process, for example about too many listeners of one event. */
export function logWarnings(log: Logger): void {
  process.on('warning', (warning) => {
    log.warn({ err: warning }, 'a warning from Node');
  });
}
