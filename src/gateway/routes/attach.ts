// Terminals and the input of commands over WebSockets. Binary frames are bytes, and text frames are JSON messages.
// A shell ends when its connection ends. A command continues: its output comes from its stored events, so each new
// connection gets all of it.
import type { FastifyInstance } from 'fastify';
import type { Exec } from '../../shared/api.ts';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import { fits } from '../../shared/ipc/contract.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { StreamControl, type StreamOperation } from '../../shared/contracts/worker.ts';
import type { GatewayParts } from '../parts.ts';
import { keyOf } from '../http/target.ts';
import { findExec } from '../reads/found-rows.ts';
import type { ClientSocket, WebSocketMessage } from '../live/web-socket.ts';
import { nextItem, openWorkerStream } from '../live/worker-stream.ts';

const boxPath = /^\/v1\/boxes\/([^/]+)\/attach\/?$/;
const execPath = /^\/v1\/boxes\/([^/]+)\/exec\/([^/]+)\/attach\/?$/;

type Attach = Extract<StreamOperation, { kind: 'attach' }>;

/** Adds the same paths for plain GET requests. They answer 426, because the client must ask for a WebSocket. */
export function addAttachRoutes(app: FastifyInstance): void {
  for (const url of ['/v1/boxes/:box/attach', '/v1/boxes/:box/exec/:exec/attach']) {
    app.get(url, { exposeHeadRoute: false }, async (_request, reply) => {
      void reply.header('upgrade', 'websocket').header('connection', 'upgrade');
      throw new BoxRunError('VALIDATION_ERROR', 'this is a WebSocket', {
        status: 426,
        hint: 'connect with a WebSocket client',
      });
    });
  }
}

/** The function that serves the WebSocket at `url`; null if there is none. */
export function webSocketRoute(parts: GatewayParts, url: URL): ((client: ClientSocket) => Promise<void>) | null {
  const box = boxPath.exec(url.pathname);
  if (box !== null) return (client) => attachShell(parts, client, nameIn(box[1]), url.searchParams);
  const exec = execPath.exec(url.pathname);
  if (exec !== null)
    return (client) =>
      attachExec(
        parts,
        client,
        { box: nameIn(exec[1]), exec: nameIn(exec[2]) },
        url.searchParams.get('output') !== 'false',
      );
  return null;
}

async function attachShell(
  parts: GatewayParts,
  client: ClientSocket,
  box: string,
  query: URLSearchParams,
): Promise<void> {
  const stream = await openWorkerStream(parts, box, shellOf(query));
  closeStreamWithClient(client, stream);
  client.onMessage((message) => forward(message, stream, client));
  for (let item = await nextItem(stream); item !== null; item = await nextItem(stream)) {
    if ('bytes' in item) await client.send(item.bytes);
    else if (item.report.type === 'exit') await client.sendMessage({ type: 'exit', code: item.report.code });
  }
  client.close();
}

/** @param withOutput if false, the client only sends input, and gets nothing but the exit of the command */
async function attachExec(
  parts: GatewayParts,
  client: ClientSocket,
  path: { box: string; exec: string },
  withOutput: boolean,
): Promise<void> {
  const exec = await findExec(parts.rows, path);
  const stream = exec.status === 'running' ? await openInput(parts, exec.box_id, exec.id) : null;
  if (stream !== null) {
    closeStreamWithClient(client, stream);
    // Errors of the worker go to the client, for example if the command takes no input. But if the command has ended,
    // the client learns that from the exit event.
    void nextItem(stream).catch((error: unknown) => {
      const { code } = toBoxRunError(error);
      if (code !== 'EXEC_NOT_FOUND' && code !== 'UNAVAILABLE') client.fail(error);
    });
  }
  client.onMessage(async (message) => (stream === null ? undefined : forward(message, stream, client)));
  const signal = AbortSignal.any([client.gone, parts.closing]);
  if (withOutput) await sendOutput(parts, client, exec, signal);
  else await sendExit(parts, client, exec, signal);
  stream?.close();
  client.close();
}

/** Sends all output of the command from its first byte, and then its exit. */
async function sendOutput(
  { feed }: GatewayParts,
  client: ClientSocket,
  exec: Exec,
  signal: AbortSignal,
): Promise<void> {
  for await (const events of feed.read(exec, -1, signal)) {
    for (const event of events) {
      if (event.type === 'exit') {
        const { exit_code: code, error } = JSON.parse(Buffer.from(event.data).toString()) as {
          exit_code: number | null;
          error?: string;
        };
        await client.sendMessage({ type: 'exit', code, ...(error === undefined ? {} : { error }) });
      } else if (event.stream === 'stderr') {
        await client.sendMessage({ type: 'stderr', data: Buffer.from(event.data).toString('base64') });
      } else {
        await client.send(event.data);
      }
    }
  }
}

async function sendExit(
  { feed, rows }: GatewayParts,
  client: ClientSocket,
  exec: Exec,
  signal: AbortSignal,
): Promise<void> {
  await feed.ended(exec, signal);
  const ended = await rows.exec(exec.box_id, exec.id);
  if (ended === null) throw new BoxRunError('EXEC_NOT_FOUND', `exec ${exec.id} was removed`);
  await client.sendMessage({
    type: 'exit',
    code: ended.exit_code,
    ...(ended.error_message === null ? {} : { error: ended.error_message }),
  });
}

async function openInput(parts: GatewayParts, box: string, execId: string): Promise<ByteStream | null> {
  return openWorkerStream(parts, box, { kind: 'input', execId });
}

function closeStreamWithClient(client: ClientSocket, stream: ByteStream): void {
  const onGone = () => {
    stream.close();
  };
  if (client.gone.aborted) onGone();
  client.gone.addEventListener('abort', onGone, { once: true });
}

/** Sends one message of the client to the worker. */
async function forward({ data, isBinary }: WebSocketMessage, stream: ByteStream, client: ClientSocket): Promise<void> {
  try {
    if (isBinary) await stream.send(data);
    else await stream.control(controlOf(data));
  } catch (error) {
    const known = toBoxRunError(error);
    if (known.code !== 'UNAVAILABLE') client.fail(known); // Otherwise the code that reads the stream reports the end.
  }
}

function controlOf(data: Buffer): unknown {
  let message: unknown = null;
  try {
    message = JSON.parse(data.toString());
  } catch {
    // `message` stays null, which does not fit the schema.
  }
  if (fits(StreamControl, message)) return message;
  throw new BoxRunError(
    'VALIDATION_ERROR',
    'a text frame must be {"type":"resize","cols":C,"rows":R} or {"type":"eof"}',
  );
}

function shellOf(query: URLSearchParams): Attach {
  const shell = query.get('shell');
  const term = query.get('term') ?? 'xterm-256color';
  if (shell?.includes('\0') === true || !/^[\w.+-]{1,64}$/.test(term))
    throw new BoxRunError('VALIDATION_ERROR', "'shell' or 'term' cannot be used");
  const size = { cols: sizeOf('cols', query, 80), rows: sizeOf('rows', query, 24) };
  return { kind: 'attach', shell: shell === '' ? null : shell, tty: { ...size, term } };
}

function sizeOf(name: string, query: URLSearchParams, fallback: number): number {
  const text = query.get(name) ?? `${fallback}`;
  const value = Number(text);
  if (/^\d{1,5}$/.test(text) && value >= 1 && value <= 65_535) return value;
  throw new BoxRunError('VALIDATION_ERROR', `'${name}' must be a whole number from 1 to 65535`);
}

function nameIn(part: string | undefined): string {
  try {
    return keyOf(decodeURIComponent(part ?? ''));
  } catch {
    return '';
  }
}
