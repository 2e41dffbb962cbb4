// Tests the wait for the slower side of a connection: when it ends, and that no listener is left.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { afterEach, expect, it } from 'vitest';
import { drained } from '../../../src/shared/waiting/drained.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

it('the wait ends when there is room again, and a thousand waits leave no listener', async () => {
  const stream = new PassThrough({ highWaterMark: 1 });
  const before = ['drain', 'close'].map((event) => stream.listenerCount(event));
  for (let wait = 0; wait < 1000; wait++) {
    expect(stream.write('ab')).toBe(false);
    const room = drained(stream);
    stream.read();
    await room;
  }
  expect(['drain', 'close'].map((event) => stream.listenerCount(event))).toEqual(before);
});

it('the wait ends if the stream is closed before or during it', async () => {
  const stream = new PassThrough({ highWaterMark: 1 });
  stream.write('ab');
  const room = drained(stream);
  stream.destroy();
  await room;
  await drained(stream);
});

it('the wait ends if its signal is aborted before or during it', async () => {
  const stream = new PassThrough({ highWaterMark: 1 });
  stream.write('ab');
  const over = new AbortController();
  const room = drained(stream, over.signal);
  over.abort();
  await room;
  await drained(stream, over.signal);
  expect(stream.listenerCount('drain')).toBe(0);
});

it('the wait ends for an HTTP answer whose client has disconnected', async () => {
  const server = createServer();
  servers.push(server);
  const left = new Promise<void>((resolve) => {
    server.on('request', (_request, response) => {
      const fill = () => {
        if (response.write('x'.repeat(65_536))) setImmediate(fill);
        else
          void drained(response)
            .then(() => drained(response))
            .then(resolve);
      };
      fill();
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  await answer.body?.cancel();
  await left;
});
