// The description of the API, for programs, at /openapi.json. Called once by app.ts.
// The text is made when the server starts, and is the same for everyone.
import type { FastifyInstance } from 'fastify';

export function addOpenApiRoutes(app: FastifyInstance, document: object): void {
  const text = JSON.stringify(document);
  app.get('/openapi.json', async (_request, reply) => reply.type('application/json; charset=utf-8').send(text));
}
