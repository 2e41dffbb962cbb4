// A shell of the dashboard, against a small WebSocket server: one shell for one start, and the reason of its end.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { WebSocketServer, type WebSocket } from 'ws';
import { BoxRun } from '../../../src/sdk/index.ts';
import { runShell } from '../../../src/ui/terminal/run-shell.ts';

/**
 * Runs a shell at a server that does `serveShell` for each connection.
 * @param onRequest called when the server has the request for a shell, before it accepts the connection
 * @param signal closes the shell
 */
async function runAt(
  serveShell: (socket: WebSocket) => void,
  onRequest: () => void = () => undefined,
  signal: AbortSignal = new AbortController().signal,
) {
  const server = createServer();
  const sockets = new WebSocketServer({
    server,
    verifyClient: (_request, accept) => {
      onRequest();
      accept(true);
    },
  });
  const urls: string[] = [];
  sockets.on('connection', (socket, request) => {
    urls.push(request.url ?? '');
    serveShell(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const client = new BoxRun({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  onTestFinished(async () => {
    await client.close();
    server.close();
  });
  let shown = '';
  let opened = 0;
  const screen = {
    cols: 80,
    rows: 24,
    write(data: Uint8Array, onWritten: () => void) {
      shown += new TextDecoder().decode(data);
      onWritten();
    },
  };
  const reason = await runShell(
    async (options) => client.attach('web', options),
    screen,
    () => {
      opened++;
    },
    signal,
  );
  return { urls, reason, shown, opened };
}

it('shows the output of the shell that the server chooses, and says how it ended', async () => {
  const ended = await runAt((socket) => {
    socket.send(Buffer.from('$ '));
    socket.send('{"type":"exit","code":5}');
  });
  expect(ended).toEqual({
    urls: ['/v1/boxes/web/attach?cols=80&rows=24'],
    reason: 'The shell ended with exit code 5.',
    shown: '$ ',
    opened: 1,
  });
});

it('does not start another shell when a shell is lost', async () => {
  const { urls, reason } = await runAt((socket) => {
    socket.send(Buffer.from('# work'));
    socket.send('{"type":"error","code":"RUNTIME_ERROR","message":"the engine lost the shell"}');
  });
  expect(urls).toHaveLength(1);
  expect(reason).toBe('the engine lost the shell');
});

it('does not start another shell when a shell ends at once with exit code 127', async () => {
  const { urls, reason } = await runAt((socket) => {
    socket.send('{"type":"exit","code":127}');
  });
  expect(urls).toHaveLength(1);
  expect(reason).toBe('The shell ended with exit code 127.');
});

it('says in plain words that the connection is lost', async () => {
  const { reason } = await runAt((socket) => {
    socket.terminate();
  });
  expect(reason).toBe('The connection is lost.');
});

it('ends a shell that is closed while it is still connecting', async () => {
  const closing = new AbortController();
  const { reason, opened } = await runAt(
    (socket) => {
      socket.send('{"type":"exit","code":0}');
    },
    () => {
      closing.abort();
    },
    closing.signal,
  );
  expect({ reason, opened }).toEqual({ reason: 'The terminal was closed.', opened: 0 });
});
