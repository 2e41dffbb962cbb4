// Names and limits in requests that the command line checks itself. This file imports nothing, so that a command does
// not load the schemas of all requests.

/** The longest grace of a stop, in seconds. */
export const graceSMax = 600;

/** The longest wait for a port to listen, in seconds. */
export const portWaitMaxS = 300;

/** The smallest `cpu_limit`: the kernel refuses a quota of less than a hundredth of one CPU (1 ms of 100 ms). */
export const cpuLimitMin = 0.01;

/** How many labels a box can have. */
export const labelsMax = 64;

/** The limits of setrlimit(2), in lower case and without RLIMIT_. */
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
