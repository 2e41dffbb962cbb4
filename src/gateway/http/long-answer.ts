// Answers that may take long: `102 Processing` tells a waiting client, at intervals, that the server is at work, which
// resets the read timeouts of the Python SDK. The first one comes late, since simple clients take it for the answer.
import type { FastifyReply } from 'fastify';
import { limits } from '../../shared/limits.ts';

/** The result of `work`; interim responses go out on `reply` while it takes its time. */
export async function whileProcessing<T>(reply: FastifyReply, work: Promise<T>): Promise<T> {
  const { raw } = reply;
  const timer = setInterval(() => {
    if (!raw.headersSent && raw.writable && raw.req.httpVersion === '1.1') raw.writeProcessing();
  }, limits.processingEveryMs);
  try {
    return await work;
  } finally {
    clearInterval(timer);
  }
}
