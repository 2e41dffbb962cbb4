// Tests links over a real socket. A link stays up when the other process restarts: requests that may be sent twice
// arrive, and others fail at once.
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createLink, type Link } from '../../../src/shared/ipc/link.ts';
import { eventually } from '../../support/runs/eventually.ts';
import { temporaryDirectory } from '../../support/runs/unit.ts';
import { serveKitchen, visitOptions, type Kitchen } from './setup.ts';

interface OpenLink {
  readonly link: Link<Kitchen>;
  readonly ups: string[];
}

function openLink(path: string, bells: number[] = []): OpenLink {
  const ups: string[] = [];
  const link = createLink({
    ...visitOptions(path, bells),
    onUp: (peer) => ups.push(peer.hello.cook),
    onDown: () => ups.push('down'),
  });
  onTestFinished(() => {
    link.close();
  });
  return { link, ups };
}

describe('a link to another process', () => {
  it('connects as soon as the server is there', async () => {
    const path = join(temporaryDirectory(), 'late.sock');
    const { link } = openLink(path);
    expect(link.peer).toBeNull();
    const ready = link.ready(5_000);
    await serveKitchen({ path });
    expect((await ready).hello).toEqual({ cook: 'Ada' });
    expect(await link.request('cook', { dish: 'x', afterMs: 0 })).toEqual({ dish: 'x' });
  });

  it('gives UNAVAILABLE with a hint at once while the server is away', async () => {
    const { link } = openLink(join(temporaryDirectory(), 'nobody.sock'));
    await expect(link.request('wait', {})).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      hint: expect.stringContaining('again') as unknown,
    });
    await expect(link.ready(20)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  });

  it('connects again after each restart, and reports it', async () => {
    const path = join(temporaryDirectory(), 'k.sock');
    const first = await serveKitchen({ path, hello: () => ({ cook: 'first' }) });
    const { link, ups } = openLink(path);
    await link.ready(5_000);
    await first.server.close();
    const second = await serveKitchen({ path, hello: () => ({ cook: 'second' }) });
    await eventually('it is up again', () => ups.includes('second'));
    expect(ups).toEqual(['first', 'down', 'second']);
    expect(link.peer?.hello.cook).toBe('second');
    await second.server.close();
    await eventually('it knows that it is down', () => link.peer === null);
  });

  it('sends a `resend` request again over the next connection, and returns its answer', async () => {
    const path = join(temporaryDirectory(), 'k.sock');
    const first = await serveKitchen({ path });
    const { link } = openLink(path);
    await link.ready(5_000);
    const answer = link.request('wait', {}, { resend: true });
    await eventually('the first server has it', () => first.waits.length === 1);
    await first.server.close();
    const second = await serveKitchen({ path });
    await eventually('the second server has it', () => second.waits.length === 1);
    second.waits[0]?.answer('from the second');
    expect(await answer).toBe('from the second');
    expect(first.waits).toHaveLength(1);
    expect(second.waits).toHaveLength(1);
  });

  it('does not send another request again, which fails with UNAVAILABLE', async () => {
    const path = join(temporaryDirectory(), 'k.sock');
    const first = await serveKitchen({ path });
    const { link } = openLink(path);
    await link.ready(5_000);
    const answer = link.request('wait', {});
    answer.catch(() => undefined);
    await eventually('the server has it', () => first.waits.length === 1);
    await first.server.close();
    await expect(answer).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    const second = await serveKitchen({ path });
    await link.ready(5_000);
    expect(second.waits).toHaveLength(0);
  });

  it('keeps a `resend` request waiting for a server until its deadline', async () => {
    const path = join(temporaryDirectory(), 'k.sock');
    const { link } = openLink(path);
    const answer = link.request('cook', { dish: 'x', afterMs: 0 }, { resend: true });
    const hopeless = link.request('cook', { dish: 'y', afterMs: 0 }, { resend: true, timeoutMs: 30 });
    await expect(hopeless).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    await serveKitchen({ path });
    expect(await answer).toEqual({ dish: 'x' });
  });

  it('does not send a refused request again', async () => {
    const server = await serveKitchen();
    const { link } = openLink(server.path);
    await link.ready(5_000);
    server.failWith = new Error('no');
    await expect(link.request('fail', {}, { resend: true })).rejects.toMatchObject({ code: 'RUNTIME_ERROR' });
  });

  it('gets each of a hundred requests answered once through five restarts', async () => {
    const path = join(temporaryDirectory(), 'k.sock');
    const { link } = openLink(path);
    let server = await serveKitchen({ path });
    const answers = Array.from({ length: 100 }, (_, index) =>
      link.request('cook', { dish: `d${index}`, afterMs: index % 40 }, { resend: true }),
    );
    for (let restart = 0; restart < 5; restart++) {
      await link.ready(5_000);
      await server.server.close();
      server = await serveKitchen({ path });
    }
    expect((await Promise.all(answers)).map(({ dish }) => dish)).toEqual(
      Array.from({ length: 100 }, (_, i) => `d${i}`),
    );
  });

  it('stays closed after it was closed', async () => {
    const server = await serveKitchen();
    const { link, ups } = openLink(server.path);
    await link.ready(5_000);
    link.close();
    await eventually('the server sees it go', () => server.server.peers.size === 0);
    await expect(link.request('wait', {})).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(ups).toEqual(['Ada', 'down']);
  });
});
