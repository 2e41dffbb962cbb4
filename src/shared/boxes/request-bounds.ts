// Names and bounds of requests that the command line checks itself. It imports nothing, so that a command need not load
// the schemas of all requests.

/** The longest grace of a stop, in seconds. */
export const graceSMax = 600;

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
