// The operations for terminals and the input of commands, over WebSockets. Binary frames are bytes, and text frames are
// JSON messages. A shell ends when its connection ends. A command continues: its output comes from its stored events,
// so each new connection gets all of it.
import { Type } from 'typebox';
import { ErrorBody, type Exec } from '../../shared/api.ts';
import { BoxRunError, toBoxRunError } from '../../shared/errors.ts';
import { fits } from '../../shared/ipc/contract.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { StreamControl, type StreamOperation } from '../../shared/contracts/worker.ts';
import type { GatewayParts } from '../parts.ts';
import { findExec } from '../reads/found-rows.ts';
import type { ClientSocket, WebSocketMessage } from '../live/web-socket.ts';
import { connectInput } from '../live/terminal-input.ts';
import { nextItem, openWorkerStream } from '../live/worker-stream.ts';
import { boxErrors, execErrors, text, type AnswerOffer, type Operations, type QueryOf } from '../openapi/operation.ts';
import type { HandlersOf } from './handler.ts';

const upgrade: AnswerOffer = { description: 'A WebSocket', content: {} };
const noUpgrade: AnswerOffer = {
  description: 'The request does not ask for a WebSocket',
  content: { 'application/json': ErrorBody },
};
/** Bytes of earlier output that a client of a detachable terminal gets: the newest ones, in whole events. */
const scrollbackBytesMax = 256 * 1024;
/** Columns or rows of a terminal. */
const cells = Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 }));

export const attachOperations = {
  attach: {
    method: 'get',
    path: '/v1/boxes/{box}/attach',
    summary: 'A shell with a terminal, over a WebSocket',
    query: Type.Object({ shell: Type.Optional(text), cols: cells, rows: cells, term: Type.Optional(text) }),
    example: { query: { cols: '120', rows: '40' } },
    answers: { 101: upgrade, 426: noUpgrade },
    errors: boxErrors,
    isWebSocket: true,
  },
  attachExec: {
    method: 'get',
    path: '/v1/boxes/{box}/exec/{exec}/attach',
    summary: 'Input and output of a command, over a WebSocket',
    query: Type.Object({ output: Type.Optional(Type.Enum(['true', 'false'])) }),
    example: { query: { output: 'false' } },
    answers: { 101: upgrade, 426: noUpgrade },
    errors: execErrors,
    isWebSocket: true,
  },
} as const satisfies Operations;

type Attach = Extract<StreamOperation, { kind: 'attach' }>;

export function createAttachHandlers(parts: GatewayParts): HandlersOf<typeof attachOperations> {
  return {
    attach: ({ client, path, query }) => attachShell(parts, client, path.box, query),
    // The query is not checked against its schema: earlier versions took every other text for `true`.
    attachExec: ({ client, path, url }) => attachExec(parts, client, path, url.searchParams.get('output') !== 'false'),
  };
}

async function attachShell(
  parts: GatewayParts,
  client: ClientSocket,
  box: string,
  query: () => ShellQuery,
): Promise<void> {
  const stream = await openWorkerStream(parts, box, shellOf(query()));
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
  if (exec.detachable === true && exec.status === 'running') return attachTerminal(parts, client, exec, withOutput);
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

/** A detachable terminal outlives its worker, and so does the connection of its client. */
async function attachTerminal(
  parts: GatewayParts,
  client: ClientSocket,
  exec: Exec,
  withOutput: boolean,
): Promise<void> {
  const over = new AbortController();
  const signal = AbortSignal.any([client.gone, parts.closing]);
  const open = () => openWorkerStream(parts, exec.box_id, { kind: 'input', execId: exec.id });
  const input = connectInput(open, AbortSignal.any([signal, over.signal]), (error) => {
    client.fail(error);
  });
  client.onMessage(async (message) => {
    const stream = await input.stream();
    if (stream !== null) await forward(message, stream, client);
  });
  try {
    if (withOutput) await sendOutput(parts, client, exec, signal);
    else await sendExit(parts, client, exec, signal);
  } finally {
    over.abort();
  }
  client.close();
}

/**
 * Sends the output of the command, and then its exit. The output begins with the first byte. That of a detachable
 * terminal begins with the newest bytes.
 */
async function sendOutput(
  { feed, rows }: GatewayParts,
  client: ClientSocket,
  exec: Exec,
  signal: AbortSignal,
): Promise<void> {
  const afterSeq = exec.detachable === true ? await rows.scrollbackAfter(exec.id, scrollbackBytesMax) : -1;
  for await (const events of feed.read(exec, afterSeq, signal)) {
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

type ShellQuery = QueryOf<typeof attachOperations.attach>;

function shellOf({ shell = '', term = 'xterm-256color', cols = 80, rows = 24 }: ShellQuery): Attach {
  if (shell.includes('\0') || !/^[\w.+-]{1,64}$/.test(term))
    throw new BoxRunError('VALIDATION_ERROR', "'shell' or 'term' cannot be used");
  return { kind: 'attach', shell: shell === '' ? null : shell, tty: { cols, rows, term } };
}
