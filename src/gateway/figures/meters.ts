// The gateway's figures, and the text of /metrics: its own with those that the supervisor gathers. Made by main.ts;
// app.ts counts requests. While the supervisor is down there is still what the gateway knows by itself.
import type { FastifyInstance } from 'fastify';
import type { SupervisorContract } from '../../shared/contracts/supervisor.ts';
import type { Link } from '../../shared/ipc/link.ts';
import { limits } from '../../shared/limits.ts';
import { renderMetrics, type Meters } from '../../shared/observe/metrics.ts';
import type { Health } from './health.ts';

export interface GatewayMeters {
  /** Counts each request of `app`, from its head to the end of its answer. */
  watch(app: FastifyInstance): void;
  /** Output that was given up knowingly, and why. */
  outputLost(reason: 'run_cut', bytes: number): void;
  render(): Promise<string>;
  /**
   * Tells the supervisor this gateway's figures, now and again, until `signal` aborts: for where there are several
   * gateways.
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
  lost.inc({ reason: 'run_cut' }, 0);
  open.set(0);
  meters.gauge('queue_depth', 'What waits at the bounds of limits.ts.', ['queue'], (gauge) => {
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
        // The pattern of the path, never the path: its values are without number.
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
    report(signal) {
      const tell = async () => {
        const figures = (await meters.snapshot()).filter(({ name }) => name !== 'boxrun_part_up'); // Everybody's, not this gateway's.
        await supervisor.request('reportFigures', { figures }).catch(() => undefined); // It is away: again soon.
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
      const [gathered, { parts: up }] = await Promise.all([
        supervisor.request('metrics', {}).catch(() => []),
        health(),
      ]);
      for (const [part, isUp] of Object.entries(up)) parts.set({ part }, isUp ? 1 : 0);
      return renderMetrics([await meters.snapshot(), ...gathered]);
    },
  };
}
