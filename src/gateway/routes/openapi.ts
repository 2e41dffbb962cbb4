// The route /openapi.json: the description of the API for programs.
// The text is made once, when the gateway starts, and is the same for every client.
import type { FastifyInstance } from 'fastify';

export function addOpenApiRoutes(app: FastifyInstance, document: object): void {
  const text = JSON.stringify(document);
  app.get('/openapi.json', async (_request, reply) => reply.type('application/json; charset=utf-8').send(text));
}
