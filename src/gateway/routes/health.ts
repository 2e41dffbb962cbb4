// The routes for facts about the server: its limits for clients, and its metrics and health for monitoring.
// They answer also while other processes of the server are down.
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

  // Live means that this process answers. Ready means that commands and streams work now.
  app.get('/healthz', async () => ({ ok: true }));
  app.get('/readyz', async (_request, reply) => {
    const found = await health();
    if (!found.ok) void reply.header('retry-after', '1');
    return reply.code(found.ok ? 200 : 503).send(found);
  });
}
