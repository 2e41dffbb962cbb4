// The client with small HTTP servers that give correct and wrong answers.
import { createServer } from 'node:http';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { BoxRun, type BoxRunClient, type ExecEvent } from '../../../src/sdk/index.ts';
import { exitEvent, logEvent, serve, sse } from './setup.ts';

const exec = { id: 'exec_a', box_id: 'box_a' };

async function collect(client: BoxRunClient, options = {}): Promise<ExecEvent[]> {
  const events: ExecEvent[] = [];
  for await (const event of client.execEvents(exec, options)) events.push(event);
  return events;
}

it('gives an error the code from the server', async () => {
  const client = await serve((_, response) => {
    response.writeHead(409).end(JSON.stringify({ code: 'NAME_ALREADY_EXISTS', message: 'taken', hint: 'another' }));
  });
  await expect(client.create({ image: 'a' })).rejects.toMatchObject({
    code: 'NAME_ALREADY_EXISTS',
    message: 'taken',
    hint: 'another',
    status: 409,
  });
});

it('says so if the answer does not come from a BoxRun server', async () => {
  const client = await serve((_, response) => {
    response.writeHead(502).end('<html>');
  });
  await expect(client.info()).rejects.toMatchObject({ code: 'RUNTIME_ERROR', status: 502 });
});

it('gives UNAVAILABLE with a hint if no server answers', async () => {
  const client = new BoxRun({ socketPath: '/nowhere/boxrun.sock' });
  await expect(client.info()).rejects.toMatchObject({ code: 'UNAVAILABLE', hint: 'start one with: boxrun serve' });
  await client.close();
});

it('gives UNAVAILABLE if the connection ends before the answer', async () => {
  const client = await serve((request) => {
    request.socket.destroy();
  });
  await expect(client.info()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

it('gives CANCELED when its signal aborts', async () => {
  const client = await serve(() => undefined);
  await expect(client.info({ signal: AbortSignal.timeout(20) })).rejects.toMatchObject({ code: 'CANCELED' });
});

it('works over a Unix socket', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'boxrun-sdk-'));
  const socketPath = join(directory, 'a.sock');
  const server = createServer((request, response) => {
    response.end(JSON.stringify([{ id: request.url }]));
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  const client = new BoxRun({ socketPath });
  expect(await client.listBoxes('running')).toEqual([{ id: '/v1/boxes?status=running' }]);
  await client.close();
  server.close();
  rmSync(directory, { recursive: true });
});

it('escapes names and ids in paths', async () => {
  const client = await serve((request, response) => {
    response.end(JSON.stringify({ url: request.url }));
  });
  expect(await client.getBox('a/b?c')).toEqual({ url: '/v1/boxes/a%2Fb%3Fc' });
});

it('reads events as bytes and text', async () => {
  const client = await serve((request, response) => {
    expect(request.url).toBe('/v1/boxes/box_a/exec/exec_a/events?encoding=base64&after=-1');
    sse(response).end(`${logEvent(0, 'hällo')}${exitEvent(1)}`);
  });
  const [log, exit] = await collect(client);
  expect(log).toMatchObject({ type: 'log', seq: 0, stream: 'stdout', text: 'hällo' });
  expect(exit).toEqual({ type: 'exit', seq: 1, exitCode: 0, error: null });
});

const comments = ': alive\n: alive\n';
it.each([
  ['before, between and behind events', `${comments}${logEvent(0, 'a')}${comments}${exitEvent(1)}${comments}`],
  ['with an empty line behind them', `: alive\n\n${logEvent(0, 'a')}: alive\n\n: alive\n\n${exitEvent(1)}`],
  ['in the midst of an event', (logEvent(0, 'a') + exitEvent(1)).replaceAll(/^event: /gm, `${comments}event: `)],
  ['without text', `:\n${logEvent(0, 'a')}:\n:\n${exitEvent(1)}`],
])('ignores comments %s, with each kind of line end and wherever the bytes are cut', async (_where, text) => {
  const forms = [text, text.replaceAll('\n', '\r\n'), `\ufeff${text}`];
  for (const body of forms.map((form) => Buffer.from(form))) {
    for (const length of [1, 7, body.length]) {
      const client = await serve((_request, response) => {
        sse(response).flushHeaders();
        for (let at = 0; at < body.length; at += length) response.write(body.subarray(at, at + length));
        response.end();
      });
      expect(await collect(client)).toMatchObject([
        { seq: 0, text: 'a' },
        { seq: 1, exitCode: 0 },
      ]);
    }
  }
});

it('goes on after the last event when the connection is lost, and gives no event twice', async () => {
  const asked: (string | undefined)[] = [];
  const client = await serve((request, response) => {
    asked.push(request.url?.split('after=')[1]);
    if (asked.length === 1) {
      sse(response).write(logEvent(0, 'a') + logEvent(1, 'b'));
      setTimeout(() => response.destroy(), 20);
    } else if (asked.length === 2) {
      response.writeHead(503).end(JSON.stringify({ code: 'UNAVAILABLE', message: 'restarting' }));
    } else if (asked.length === 3) {
      // Ends without an exit, as a gateway does that is stopping.
      sse(response).end(logEvent(1, 'b') + logEvent(2, 'c'));
    } else {
      sse(response).end(exitEvent(3));
    }
  });
  expect((await collect(client)).map(({ seq }) => seq)).toEqual([0, 1, 2, 3]);
  expect(asked).toEqual(['-1', '1', '1', '2']);
});

it('does not reconnect if the command does not exist', async () => {
  let requests = 0;
  const client = await serve((_, response) => {
    requests++;
    response.writeHead(404).end(JSON.stringify({ code: 'EXEC_NOT_FOUND', message: 'no such exec' }));
  });
  await expect(collect(client)).rejects.toMatchObject({ code: 'EXEC_NOT_FOUND' });
  expect(requests).toBe(1);
});

it('stops reconnecting when it is canceled', async () => {
  const client = await serve((request) => {
    request.socket.destroy();
  });
  await expect(collect(client, { signal: AbortSignal.timeout(150) })).rejects.toMatchObject({ code: 'CANCELED' });
});

it('reports the steps of creating a box, and the result', async () => {
  const client = await serve((request, response) => {
    expect(request.headers.accept).toBe('text/event-stream');
    sse(response).end(
      'event: progress\ndata: {"stage":"pull","message":"pulling"}\n\nevent: box\ndata: {"id":"box_a"}\n\n',
    );
  });
  const steps: string[] = [];
  const box = await client.create({ image: 'a' }, { onProgress: ({ message }) => steps.push(message) });
  expect([box, steps]).toEqual([{ id: 'box_a' }, ['pulling']]);
  const failing = await serve((_, response) => {
    sse(response).end('event: error\ndata: {"code":"IMAGE_PULL_FAILED","message":"no such image"}\n\n');
  });
  await expect(failing.create({ image: 'a' }, { onProgress: () => undefined })).rejects.toMatchObject({
    code: 'IMAGE_PULL_FAILED',
  });
  const leaving = await serve((_, response) => {
    sse(response).end(': alive\n');
  });
  await expect(leaving.create({ image: 'a' }, { onProgress: () => undefined })).rejects.toMatchObject({
    code: 'UNAVAILABLE',
  });
});
