// The names of limits of one process. It imports nothing, so that a command line can check a name and load no more.
// A name that is not here is refused everywhere.

/** As setrlimit(2) names them. */
export const ulimitNames = [
  'core',
  'cpu',
  'data',
  'fsize',
  'locks',
  'memlock',
  'msgqueue',
  'nice',
  'nofile',
  'nproc',
  'rss',
  'rtprio',
  'rttime',
  'sigpending',
  'stack',
] as const;
