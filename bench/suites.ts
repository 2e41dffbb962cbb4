// The list of all benchmarks. If none is named, they run in this order; named ones run in the order of the command
// line. Suites with `onlyByName` run only when they are named.
import { apiGet } from './suites/api-get.ts';
import { cli } from './suites/cli.ts';
import { create, createMany } from './suites/create.ts';
import { execStream } from './suites/exec-stream.ts';
import { execLatency, execThroughput } from './suites/exec.ts';
import { files } from './suites/files.ts';
import { forward } from './suites/forward.ts';
import { gateways } from './suites/gateways.ts';
import { growth } from './suites/growth.ts';
import { hops } from './suites/hops.ts';
import { replay } from './suites/replay.ts';
import { retention } from './suites/retention.ts';
import { vmCreate, vmExec } from './suites/vm.ts';
import { writer } from './suites/writer.ts';
import { workers } from './suites/workers.ts';
import type { Suite } from './support/measure.ts';

export const suites: readonly Suite[] = [
  execThroughput,
  execLatency,
  execStream,
  forward,
  hops,
  writer,
  replay,
  apiGet,
  create,
  createMany,
  files,
  cli,
  growth,
  retention,
  workers,
  gateways,
  vmExec,
  vmCreate,
];
