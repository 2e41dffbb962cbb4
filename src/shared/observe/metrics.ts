// Prometheus metrics of one process (gateway, supervisor or writer; workers only report figures to the supervisor), and
// one text from the metrics of several processes. A process sends its metrics as a snapshot (metrics-snapshot.ts).
// Label values come from fixed sets, except `box`, which has one value per box.
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { MetricsSnapshot } from './metrics-snapshot.ts';

export const prometheusType = 'text/plain; version=0.0.4; charset=utf-8';

/** Seconds: from a read of one row (under a millisecond) to the pull of an image (minutes). */
const buckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

export interface Meters {
  counter<L extends string = never>(name: string, help: string, labelNames?: readonly L[]): Counter<L>;
  gauge<L extends string = never>(
    name: string,
    help: string,
    labelNames?: readonly L[],
    collect?: (gauge: Gauge<L>) => void | Promise<void>,
  ): Gauge<L>;
  /** A histogram of durations in seconds. */
  histogram<L extends string = never>(name: string, help: string, labelNames?: readonly L[]): Histogram<L>;
  snapshot(): Promise<MetricsSnapshot>;
}

/** Makes the metrics of one process. Their names begin with `boxrun_`. */
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

/** The text for Prometheus. Values with the same name and labels are added. */
export function renderMetrics(snapshots: readonly MetricsSnapshot[]): Promise<string> {
  return AggregatorRegistry.aggregate(snapshots.map((snapshot) => snapshot as unknown as object)).metrics();
}

/**
 * Measures how long requests to other processes take. The function returned takes the name of a connection, and gives
 * the `observe` option for it.
 */
export function createLinkMeter(meters: Meters): (hop: string) => (request: string, seconds: number) => void {
  const seconds = meters.histogram(
    'hop_seconds',
    'Requests between processes of the server, from question to answer.',
    ['hop', 'request'],
  );
  return (hop) => (request, value) => {
    seconds.observe({ hop, request }, value);
  };
}
