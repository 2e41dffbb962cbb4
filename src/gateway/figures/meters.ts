// The figures of the gateway, and the text of /metrics. The text contains the gateway's own figures and those that the
// supervisor collects from all processes. While the supervisor is down, it contains only the gateway's own figures.
import type { FastifyInstance } from 'fastify';
import type { SupervisorContract } from '../../shared/contracts/supervisor.ts';
import type { Link } from '../../shared/ipc/link.ts';
import { limits } from '../../shared/limits.ts';
import { renderMetrics, type Meters } from '../../shared/observe/metrics.ts';
import type { Health } from './health.ts';

export interface GatewayMeters {
  /** Counts and times each request of `app`, from its head to the end of its answer. */
  watch(app: FastifyInstance): void;
  /** Counts bytes of output of runs that were cut because a limit was reached. */
  outputLost(reason: 'run_cut', bytes: number): void;
  /** Counts a connection to a port of a box. The result must be called when it ends. */
  portConnection(): () => void;
  /** The text of /metrics. */
  render(): Promise<string>;
  /**
   * Sends this gateway's figures to the supervisor every limits.gatewayReportEveryMs until `signal` aborts. If the
   * server has several gateways, each of them can then show the figures of all.
   */
  report(signal: AbortSignal): void;
}

export interface GatewayMetersDeps {
  readonly meters: Meters;
  readonly supervisor: Pick<Link<SupervisorContract>, 'request'>;
  readonly health: () => Promise<Health>;
  readonly readersWaiting: () => number;
}

export function createGatewayMeters({ meters, supervisor, health, readersWaiting }: GatewayMetersDeps): GatewayMeters {
  const open = meters.gauge('http_requests_open', 'Requests under way, streams among them.');
  const seconds = meters.histogram('http_request_seconds', 'Requests by route, from head to the end of the answer.', [
    'method',
    'route',
    'status',
  ]);
  const lost = meters.counter('output_lost_bytes_total', 'Bytes of output given up knowingly, by reason.', ['reason']);
  const parts = meters.gauge('part_up', '1 for each part of the server that answers, else 0.', ['part']);
  const portsOpen = meters.gauge('port_connections_open', 'Connections to ports of boxes.');
  const ports = meters.counter('port_connections_total', 'Connections to ports of boxes that stood.');
  portsOpen.set(0);
  ports.inc(0);
  lost.inc({ reason: 'run_cut' }, 0);
  open.set(0);
  meters.gauge('queue_depth', 'Pieces of work that wait for their turn, by queue.', ['queue'], (gauge) => {
    gauge.set({ queue: 'gateway_reads' }, readersWaiting());
  });

  const onClose = () => {
    open.dec();
  };

  return {
    watch(app) {
      app.addHook('onRequest', (_request, reply, done) => {
        open.inc();
        reply.raw.once('close', onClose);
        done();
      });
      app.addHook('onResponse', ({ method, routeOptions }, reply, done) => {
        // The label is the pattern of the path. The path itself would make a new time series for each box.
        seconds.observe(
          { method, route: routeOptions.url ?? 'none', status: reply.statusCode },
          reply.elapsedTime / 1000,
        );
        done();
      });
    },
    outputLost(reason, bytes) {
      if (bytes > 0) lost.inc({ reason }, bytes);
    },
    portConnection() {
      portsOpen.inc();
      ports.inc();
      return () => {
        portsOpen.dec();
      };
    },
    report(signal) {
      const tell = async () => {
        // boxrun_part_up is about the whole server and not about this gateway, so it is left out.
        const figures = (await meters.snapshot()).filter(({ name }) => name !== 'boxrun_part_up');
        // If the supervisor is down, the next report replaces this one.
        await supervisor.request('reportFigures', { figures }).catch(() => undefined);
      };
      const timer = setInterval(() => void tell(), limits.gatewayReportEveryMs);
      signal.addEventListener(
        'abort',
        () => {
          clearInterval(timer);
        },
        { once: true },
      );
      void tell();
    },
    async render() {
      const [collected, { parts: up }] = await Promise.all([
        supervisor.request('metrics', {}).catch(() => []),
        health(),
      ]);
      for (const [part, isUp] of Object.entries(up)) parts.set({ part }, isUp ? 1 : 0);
      return renderMetrics([await meters.snapshot(), ...collected]);
    },
  };
}
