// The operations for facts about the server: its limits for clients, and its metrics and health for monitoring.
// They answer also while other processes of the server are down.
import { Type } from 'typebox';
import { Info } from '../../shared/api.ts';
import { prometheusType } from '../../shared/observe/metrics.ts';
import { Health } from '../figures/health.ts';
import { json, Ok, type Operations } from '../openapi/operation.ts';
import type { GatewayParts } from '../parts.ts';
import type { HandlersOf } from './handler.ts';

export const healthOperations = {
  info: {
    method: 'get',
    path: '/v1/info',
    summary: 'Limits and driver of this server',
    answers: { 200: json('Facts', Info) },
  },
  live: {
    method: 'get',
    path: '/healthz',
    summary: 'Whether the server is alive',
    answers: { 200: json('The server is alive', Ok) },
  },
  ready: {
    method: 'get',
    path: '/readyz',
    summary: 'Whether every part of the server answers',
    answers: { 200: json('Every part works', Health), 503: json('A part does not work now', Health) },
  },
  metrics: {
    method: 'get',
    path: '/metrics',
    summary: 'Figures of every process, for Prometheus',
    answers: { 200: { description: 'The text format of Prometheus', content: { 'text/plain': Type.String() } } },
  },
} as const satisfies Operations;

export function createHealthHandlers({ config, health, meters }: GatewayParts): HandlersOf<typeof healthOperations> {
  return {
    info: async () => ({ max_cpu: config.maxCpu, max_memory_mb: config.maxMemoryMb, driver: config.driver }),

    // Live means that this process answers. Ready means that commands and streams work now.
    live: async () => ({ ok: true }),
    ready: async ({ reply }) => {
      const found = await health();
      if (!found.ok) void reply.header('retry-after', '1');
      return reply.code(found.ok ? 200 : 503).send(found);
    },

    metrics: async ({ reply }) => reply.type(prometheusType).send(await meters.render()),
  };
}
