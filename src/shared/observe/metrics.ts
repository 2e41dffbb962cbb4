// Figures in the terms of Prometheus, as each process has them, and how those of several processes become one text. A
// snapshot (metrics-snapshot.ts) crosses processes by IPC; gateways render. Labels come from fixed sets, but for `box`,
// of which there are as many as boxes.
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { MetricsSnapshot } from './metrics-snapshot.ts';

export const prometheusType = 'text/plain; version=0.0.4; charset=utf-8';

/** From a row in the database (under a millisecond) to an image that has to be pulled. */
const buckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

/** The figures of one process, all named `boxrun_…`. */
export interface Meters {
  counter<L extends string = never>(name: string, help: string, labelNames?: readonly L[]): Counter<L>;
  gauge<L extends string = never>(
    name: string,
    help: string,
    labelNames?: readonly L[],
    collect?: (gauge: Gauge<L>) => void | Promise<void>,
  ): Gauge<L>;
  /** Of seconds. */
  histogram<L extends string = never>(name: string, help: string, labelNames?: readonly L[]): Histogram<L>;
  snapshot(): Promise<MetricsSnapshot>;
}

export function createMeters(role: string): Meters {
  const registry = new Registry();
  const base = (name: string, help: string) => ({ name: `boxrun_${name}`, help, registers: [registry] });
  const meters: Meters = {
    counter: (name, help, labelNames = []) => new Counter({ ...base(name, help), labelNames: [...labelNames] }),
    gauge(name, help, labelNames = [], collect = () => undefined) {
      return new Gauge({
        ...base(name, help),
        labelNames: [...labelNames],
        collect() {
          return collect(this);
        },
      });
    },
    histogram: (name, help, labelNames = []) =>
      new Histogram({ ...base(name, help), labelNames: [...labelNames], buckets }),
    snapshot: async () => (await registry.getMetricsAsJSON()) as unknown as MetricsSnapshot,
  };
  meters.gauge('process_resident_bytes', 'Memory of the processes of the server.', ['process'], (gauge) => {
    gauge.set({ process: role }, process.memoryUsage.rss());
  });
  meters.gauge('process_cpu_seconds', 'CPU time that the processes of the server have used.', ['process'], (gauge) => {
    const { user, system } = process.cpuUsage();
    gauge.set({ process: role }, (user + system) / 1e6);
  });
  return meters;
}

/** Figures of the same name and labels are added up. */
export function renderMetrics(snapshots: readonly MetricsSnapshot[]): Promise<string> {
  return AggregatorRegistry.aggregate(snapshots.map((snapshot) => snapshot as unknown as object)).metrics();
}

/** Counts how long requests to another process take, for `observe` of a connection. */
export function createHopMeter(meters: Meters): (hop: string) => (request: string, seconds: number) => void {
  const seconds = meters.histogram(
    'hop_seconds',
    'Requests between processes of the server, from question to answer.',
    ['hop', 'request'],
  );
  return (hop) => (request, value) => {
    seconds.observe({ hop, request }, value);
  };
}
