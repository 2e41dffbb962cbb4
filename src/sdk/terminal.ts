// A terminal, or a command with its input, over a WebSocket. Binary frames carry bytes, text frames carry control
// messages as JSON. It ends once: at the exit from the server, at an error, or when it is closed here. Later events
// change nothing.
import { BoxRunError, isErrorCode } from '../shared/errors.ts';
import type { PlatformWebSocket } from './platform.ts';
import type { Transport } from './transport.ts';

export interface AttachOptions {
  /** Program to run in the terminal; when absent, /bin/bash, or /bin/sh if the box has no bash. */
  readonly shell?: string | undefined;
  /** Width in characters; 80 when absent. */
  readonly cols?: number | undefined;
  /** Height in lines; 24 when absent. */
  readonly rows?: number | undefined;
  /** Value of the variable TERM; xterm-256color when absent. */
  readonly term?: string | undefined;
  /** Aborting it closes the terminal. */
  readonly signal?: AbortSignal | undefined;
}

export interface AttachExecOptions {
  /**
   * False: the server sends no output; the caller reads it in another way, such as with `execEvents`. True when absent.
   */
  readonly output?: boolean | undefined;
  /** Aborting it closes the connection. The command goes on. */
  readonly signal?: AbortSignal | undefined;
}

export interface Exit {
  /** Null if the program did not end by itself; then `error` says why. */
  readonly exitCode: number | null;
  readonly error: string | null;
}

/**
 * An open terminal. Closing the terminal of a shell (`attach`) kills the shell and its child processes. Closing the
 * terminal of a command (`attachExec`) leaves the command running.
 */
export interface Terminal extends AsyncDisposable {
  /** The output. It ends when the shell or command ends, and fails if `exited` rejects. */
  readonly output: ReadableStream<Uint8Array>;
  /** The stderr of a command that was started without a terminal (`tty`). */
  readonly errors: ReadableStream<Uint8Array>;
  /**
   * How the shell or command has ended. Rejects with the error from the server (BOX_NOT_FOUND, BOX_NOT_RUNNING,
   * EXEC_NOT_FOUND), with UNAVAILABLE if the connection is lost, with CANCELED if the terminal or the client was closed
   * here, or with RESOURCE_EXCEEDED if too much output was not read.
   */
  readonly exited: Promise<Exit>;
  /** Sends `data` as input. Resolves when more can be sent. @throws CANCELED if the terminal has ended */
  write(data: Uint8Array | string): Promise<void>;
  /** Changes the size of the terminal, in characters and lines. */
  resize(cols: number, rows: number): void;
  /** Ends the input of a command, which then reads end-of-file from its stdin. */
  end(): void;
  close(): void;
}

/**
 * The most unread output that is kept, in bytes. Above this the terminal is closed, because a WebSocket cannot ask the
 * server to wait.
 */
const unreadBytesMax = 64 * 1024 * 1024;
/** `write` waits while the WebSocket holds more unsent input than this, in bytes. */
const unsentBytesMax = 1024 * 1024;
/** How often `write` checks that, in milliseconds. A WebSocket has no event for it. */
const unsentPollMs = 5;

/**
 * Opens the WebSocket at `path` of the server. Resolves when it is open.
 * @param ownerPath path of the box or command. If the server refuses the WebSocket, a GET of this path finds the reason
 * @throws CANCELED, UNAVAILABLE, BOX_NOT_FOUND, EXEC_NOT_FOUND
 */
export async function openTerminal(
  transport: Transport,
  path: string,
  ownerPath: string,
  signal?: AbortSignal,
): Promise<Terminal> {
  if (signal?.aborted) throw new BoxRunError('CANCELED', 'the request was canceled');
  const { base, openWebSocket } = transport.platform;
  const socket = await openWebSocket(`${base.replace(/^http/, 'ws')}${path}`);
  socket.binaryType = 'arraybuffer';
  const terminal = createTerminal(socket, transport, signal);
  const onAbort = () => {
    terminal.close();
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort(); // It aborted while the WebSocket was made.
  socket.addEventListener('close', () => signal?.removeEventListener('abort', onAbort));
  const opened = new Promise<void>((resolve) => {
    socket.addEventListener('open', () => {
      resolve();
    });
  });
  try {
    await Promise.race([opened, terminal.exited]);
    return terminal;
  } catch (error) {
    // A refused WebSocket gives no reason. A plain request gives the error of the server.
    if (error instanceof BoxRunError && error.code === 'UNAVAILABLE')
      await transport.json({ method: 'GET', path: ownerPath, signal });
    throw error;
  }
}

type Fields = Readonly<Record<string, unknown>>;

interface ByteQueue {
  readonly stream: ReadableStream<Uint8Array>;
  readonly controller: ReadableStreamDefaultController<Uint8Array>;
}

function createByteQueue(onCancel: () => void): ByteQueue {
  let controller!: ReadableStreamDefaultController<Uint8Array>;
  const stream = new ReadableStream<Uint8Array>(
    {
      start: (own) => {
        controller = own;
      },
      cancel: onCancel,
    },
    { highWaterMark: unreadBytesMax, size: (chunk) => chunk?.byteLength ?? 0 },
  );
  return { stream, controller };
}

function createTerminal(socket: PlatformWebSocket, transport: Transport, signal: AbortSignal | undefined): Terminal {
  const encoder = new TextEncoder();
  const closed = createDeferred<void>();
  const exited = createDeferred<Exit>();
  exited.promise.catch(() => undefined); // A caller may ignore `exited`; its rejection must not end the process.
  let isOver = false;
  let connectionError: unknown = new Error('the WebSocket was closed');
  const close = () => {
    fail(new BoxRunError('CANCELED', 'the terminal was closed'));
  };
  const output = createByteQueue(close);
  const errors = createByteQueue(() => undefined);
  const queues = [output.controller, errors.controller];

  function end(settle: () => void): void {
    if (isOver) return;
    isOver = true;
    settle();
    socket.close();
  }
  function fail(error: BoxRunError): void {
    end(() => {
      exited.reject(error);
      for (const queue of queues) queue.error(error);
    });
  }
  function failAsDisconnected(): void {
    fail(transport.errorOf(connectionError, signal));
  }
  function put({ controller }: ByteQueue, bytes: Uint8Array): void {
    if (controller.desiredSize === null) return; // The caller has canceled this stream.
    if (controller.desiredSize <= 0)
      fail(new BoxRunError('RESOURCE_EXCEEDED', 'the output of the terminal was not read'));
    else controller.enqueue(bytes);
  }
  function onControl({ type, code, message, error, data }: Fields): void {
    if (type === 'stderr') put(errors, transport.platform.bytesOfBase64(String(data)));
    else if (type === 'error') {
      fail(
        new BoxRunError(
          isErrorCode(code) ? code : 'RUNTIME_ERROR',
          typeof message === 'string' ? message : 'the terminal failed',
        ),
      );
    } else if (type === 'exit') {
      end(() => {
        exited.resolve({
          exitCode: typeof code === 'number' ? code : null,
          error: typeof error === 'string' ? error : null,
        });
        for (const queue of queues) if (queue.desiredSize !== null) queue.close();
      });
    }
  }
  function sendControl(message: Fields): void {
    if (!isOver) socket.send(JSON.stringify(message));
  }

  socket.addEventListener('message', ({ data }) => {
    if (isOver) return;
    if (typeof data === 'string') onControl(JSON.parse(data) as Fields);
    else put(output, new Uint8Array(data as ArrayBuffer));
  });
  socket.addEventListener('error', ({ error }) => {
    if (error instanceof Error && error.message !== '') connectionError = error;
  });
  socket.addEventListener('close', () => {
    removeCloseListener();
    failAsDisconnected();
    closed.resolve();
  });
  const removeCloseListener = transport.onClose(failAsDisconnected);
  return {
    output: output.stream,
    errors: errors.stream,
    exited: exited.promise,
    async write(data) {
      if (isOver) throw new BoxRunError('CANCELED', 'the terminal is closed');
      socket.send(typeof data === 'string' ? encoder.encode(data) : data);
      while (socket.bufferedAmount > unsentBytesMax && !isOver)
        await new Promise((resolve) => setTimeout(resolve, unsentPollMs));
    },
    resize: (cols, rows) => {
      sendControl({ type: 'resize', cols, rows });
    },
    end: () => {
      sendControl({ type: 'eof' });
    },
    close,
    async [Symbol.asyncDispose]() {
      close();
      await closed.promise;
    },
  };
}

/** Promise.withResolvers, which Node 20 does not have. */
function createDeferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: unknown) => void } {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}
