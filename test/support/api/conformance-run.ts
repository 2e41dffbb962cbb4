// Sends made-up requests to a real server, a few at a time and each with a deadline. Every answer is compared with
// /openapi.json. All boxes that the requests have created are removed.
import fc from 'fast-check';
import { requestsFor, type MadeRequest } from './api-requests.ts';
import { createConformance, type ApiDocument } from './conformance.ts';
import { eventually } from '../runs/eventually.ts';
import type { TestServer } from '../servers/server.ts';

export interface ConformanceReport {
  readonly requests: number;
  readonly byStatus: Readonly<Record<string, number>>;
  readonly operations: number;
  readonly complaints: readonly string[];
  readonly leaked: readonly string[];
}

const atOnce = 6;
const deadlineMs = 60_000;

export async function runConformance(
  server: TestServer,
  { count, seed }: { count: number; seed: number },
): Promise<ConformanceReport> {
  const document = (await server.call({ path: '/openapi.json' })).json as unknown as ApiDocument;
  const conformance = createConformance(document);
  const made = new Set<string>();
  const byStatus: Record<string, number> = {};
  const complaints: string[] = [];
  const seen = new Set<string>();

  async function targets() {
    const box = await server.client.create({ image: 'base', cpu: 1, memory_mb: 64 });
    made.add(box.id);
    const exec = await server.client.startExec(box.id, { cmd: ['echo', 'x'] });
    return { boxes: [box.id], execs: [exec.id] };
  }

  async function send(request: MadeRequest): Promise<void> {
    const { method, path, url, body, headers } = request;
    const signal = AbortSignal.timeout(deadlineMs);
    const answer = await server
      .call({
        method,
        path: url,
        headers,
        signal,
        isEndless: path === '/v1/events' || path === '/v1/usage',
        ...(body === undefined ? {} : { body }),
      })
      .catch((error: unknown) => {
        complaints.push(`${method} ${url}: ${signal.aborted ? 'no answer in time' : String(error)}`);
        return null;
      });
    if (answer === null) return;
    byStatus[answer.status] = (byStatus[answer.status] ?? 0) + 1;
    seen.add(`${method} ${path}`);
    if (answer.status === 201 && path === '/v1/boxes') made.add(answer.json['id'] as string);
    const complaint =
      answer.status >= 500 ? `${answer.status} ${answer.text}` : conformance.complaint(method, path, answer);
    if (complaint !== null) complaints.push(`${method} ${url} ${(body ?? '').slice(0, 200)}: ${complaint}`);
  }

  // Each round has a new box, because requests of earlier rounds stop and remove their box.
  const perRound = 250;
  for (let from = 0; from < count; from += perRound) {
    const requests = fc.sample(requestsFor(conformance, await targets()), {
      numRuns: Math.min(perRound, count - from),
      seed: seed + from,
    });
    const queue = requests.values();
    await Promise.all(
      Array.from({ length: atOnce }, async () => {
        for (const request of queue) await send(request);
      }),
    );
    for (const id of made) await server.call({ method: 'DELETE', path: `/v1/boxes/${id}?force=true` });
    made.clear();
  }
  const left = await eventually('the boxes of broken runs are gone', async () => {
    const boxes = await server.client.listBoxes();
    return boxes.length === 0 ? boxes : null;
  }).catch(() => server.client.listBoxes());
  return { requests: count, byStatus, operations: seen.size, complaints, leaked: left.map(({ id }) => id) };
}
