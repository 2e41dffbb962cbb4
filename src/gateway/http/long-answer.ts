// Sends `102 Processing` at intervals while a slow request is in progress. Each one resets the read timeout of the
// Python SDK. The first one is sent only after limits.processingEveryMs, because simple clients mistake it for the
// answer.
import type { FastifyReply } from 'fastify';
import { limits } from '../../shared/limits.ts';

/** Gives the result of `work`. Until then it sends interim responses on `reply`. */
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
