// Tests the tokens of streams over a real socket. Each token opens one stream, once, and for a limited time.
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { openStream } from '../../../src/shared/ipc/stream.ts';
import { limits } from '../../../src/shared/limits.ts';
import { createStreams, type Streams } from '../../../src/worker/streams.ts';
import { quietLog, temporaryDirectory } from '../../support/runs/unit.ts';

afterEach(() => {
  vi.useRealTimers();
});

async function streams(served: string[] = []): Promise<Streams> {
  return createStreams(join(temporaryDirectory(), 'streams.sock'), quietLog, async (operation, stream) => {
    served.push(operation.kind);
    await stream.control({ served: operation.kind });
  });
}
const operation = { kind: 'download', path: '/file' } as const;
const refusal = { code: 'FORBIDDEN', message: 'the token of the stream is unknown, used or too old' };

it('a token opens the stream for which it was given', async () => {
  const served: string[] = [];
  const { socketPath, token } = (await streams(served)).grant(operation);
  const stream = await openStream(socketPath, token);
  expect(await stream.next()).toEqual({ control: { served: 'download' } });
  expect(await stream.next()).toBeNull();
  stream.close();
  expect(served).toEqual(['download']);
});

it('a token is refused if it has been used, during and after its stream, or if it was never given', async () => {
  const served: string[] = [];
  const { socketPath, token } = (await streams(served)).grant(operation);
  const first = await openStream(socketPath, token);
  expect(await first.next()).toEqual({ control: { served: 'download' } });
  for (const bad of [token, `${token}x`, '']) {
    const second = await openStream(socketPath, bad);
    await expect(second.next()).rejects.toMatchObject(refusal);
    second.close();
  }
  first.close();
  expect(served).toEqual(['download']);
});

it('a token is refused if it is too old', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const served: string[] = [];
  const granted = await streams(served);
  const old = granted.grant(operation);
  vi.advanceTimersByTime(limits.streamTokenMs - 1);
  const young = granted.grant(operation);
  vi.advanceTimersByTime(1);
  vi.useRealTimers();
  const refused = await openStream(old.socketPath, old.token);
  await expect(refused.next()).rejects.toMatchObject(refusal);
  refused.close();
  const stream = await openStream(young.socketPath, young.token);
  expect(await stream.next()).toEqual({ control: { served: 'download' } });
  stream.close();
  expect(served).toEqual(['download']);
});

it('a limited number of tokens is given, until some are used or too old', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const granted = await streams();
  for (let count = 0; count < limits.streamTokensMax; count++) granted.grant(operation);
  expect(() => granted.grant(operation)).toThrow(expect.objectContaining({ code: 'TOO_MANY_REQUESTS' }) as Error);
  vi.advanceTimersByTime(limits.streamTokenMs);
  expect(granted.grant(operation).token).toBeTruthy();
});
