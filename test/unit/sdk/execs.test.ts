// Commands through the client and through a box handle: how much output is kept, and when a command is canceled.
import { expect, it } from 'vitest';
import { controlledPromise } from '../../support/runs/unit.ts';
import { exitEvent, logEvent, serve, sse } from './setup.ts';

const box = { id: 'box_a', name: 'a', status: 'running' };
const exec = { id: 'exec_a', box_id: 'box_a', status: 'running' };

/** A server with one box and one command, which gives `events`. Without an exit, it runs until it is canceled. */
async function serveCommand(...events: string[]) {
  const requests: string[] = [];
  const canceled = controlledPromise<void>();
  const client = await serve((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    if (request.url?.includes('/events') === true) {
      sse(response).write(events.join(''));
      if (events.at(-1)?.includes('event: exit') === true) response.end();
    } else if (request.url?.endsWith(':cancel') === true) {
      response.end(JSON.stringify({ ...exec, status: 'canceled' }));
      canceled.resolve();
    } else {
      response.end(JSON.stringify(request.url?.includes('/exec') === true ? exec : box));
    }
  });
  return { client, requests, canceled: canceled.promise };
}

it('runs a command to its end, and keeps stdout and stderr apart', async () => {
  const { client, requests } = await serveCommand(
    logEvent(0, 'ö'),
    logEvent(1, 'oops', 'stderr'),
    logEvent(2, '\ufeffx'),
    exitEvent(3),
  );
  const result = await client.exec('a', ['ls']);
  expect(result).toMatchObject({ exitCode: 0, error: null, stdout: 'ö\ufeffx', stderr: 'oops' });
  expect(Buffer.from(result.stdoutBytes).toString()).toBe('ö\ufeffx');
  expect(requests).toEqual([
    'POST /v1/boxes/a/exec',
    'GET /v1/boxes/box_a/exec/exec_a/events?encoding=base64&after=-1',
  ]);
});

it('cancels a command that writes more than outputBytesMax', async () => {
  const { client, canceled } = await serveCommand(logEvent(0, 'a'.repeat(100)));
  await expect(client.exec('a', ['yes'], { outputBytesMax: 99 })).rejects.toMatchObject({ code: 'RESOURCE_EXCEEDED' });
  await canceled;
});

it('cancels a command if the caller leaves its loop or aborts its signal', async () => {
  const left = await serveCommand(logEvent(0, 'a'));
  for await (const event of left.client.execStream('a', ['yes'])) {
    expect(event).toMatchObject({ type: 'log', text: 'a' });
    break;
  }
  await left.canceled;
  const aborted = await serveCommand(logEvent(0, 'a'));
  const controller = new AbortController();
  const loop = (async () => {
    for await (const _event of aborted.client.execStream('a', ['yes'], { signal: controller.signal }))
      controller.abort();
  })();
  await expect(loop).rejects.toMatchObject({ code: 'CANCELED' });
  await aborted.canceled;
});

it('does not cancel a command that has ended, or whose execEvents loop is left', async () => {
  const { client, requests } = await serveCommand(logEvent(0, 'a'), exitEvent(1));
  await client.exec('a', { cmd: ['ls'], timeout_ms: 5 });
  for await (const _event of client.execEvents(exec)) break;
  expect(requests.filter((each) => each.includes(':cancel'))).toEqual([]);
});

it('ends open requests when the client closes', async () => {
  const { client } = await serveCommand(logEvent(0, 'a'));
  const loop = (async () => {
    for await (const _event of client.execEvents(exec)) void client.close();
  })();
  await expect(loop).rejects.toMatchObject({ code: 'CANCELED', message: 'the client was closed' });
  await expect(client.info()).rejects.toMatchObject({ code: 'CANCELED' });
});

it('gives a box handle with the fields of the box, which its methods update', async () => {
  let status = 'running';
  const requests: string[] = [];
  const client = await serve((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    if (request.url?.endsWith(':stop') === true) status = 'stopped';
    if (request.method === 'DELETE')
      response.writeHead(404).end(JSON.stringify({ code: 'BOX_NOT_FOUND', message: 'no such box' }));
    else response.end(JSON.stringify({ ...box, status }));
  });
  const handle = await client.create({ image: 'base' });
  expect(JSON.parse(JSON.stringify(handle))).toEqual(box);
  expect(handle.status).toBe('running');
  await handle.stop();
  expect(handle.status).toBe('stopped');
  await expect(handle.remove()).rejects.toMatchObject({ code: 'BOX_NOT_FOUND' });
  await handle[Symbol.asyncDispose](); // The box is already removed, which is no error.
  expect(requests).toEqual([
    'POST /v1/boxes',
    'POST /v1/boxes/box_a:stop',
    'DELETE /v1/boxes/box_a',
    'DELETE /v1/boxes/box_a?force=true',
  ]);
});
