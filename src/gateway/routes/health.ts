// Facts about the server: its limits for clients, and for whoever watches it, whether it lives and is ready.
// Asked by monitors and by clients at start; they tell the truth while parts are down.
import type { FastifyInstance } from 'fastify';
import { prometheusType } from '../../shared/observe/metrics.ts';
import type { GatewayParts } from '../parts.ts';

export function addHealthRoutes(app: FastifyInstance, { config, health, meters }: GatewayParts): void {
  app.get('/v1/info', async () => ({
    max_cpu: config.maxCpu,
    max_memory_mb: config.maxMemoryMb,
    driver: config.driver,
  }));

  app.get('/metrics', async (_request, reply) => reply.type(prometheusType).send(await meters.render()));

  // Live: this process answers. Ready: commands and streams would work now.
  app.get('/healthz', async () => ({ ok: true }));
  app.get('/readyz', async (_request, reply) => {
    const found = await health();
    if (!found.ok) void reply.header('retry-after', '1');
    return reply.code(found.ok ? 200 : 503).send(found);
  });
}
