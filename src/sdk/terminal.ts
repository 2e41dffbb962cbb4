// A terminal, or a command with its input, over a WebSocket: bytes both ways in binary frames, control as JSON in text
// frames. It is open until the server tells the exit, something fails, or it is closed here; whichever comes first
// settles it.
import { BoxRunError, isErrorCode } from '../shared/errors.ts';
import type { PlatformWebSocket } from './platform.ts';
import type { Transport } from './transport.ts';

export interface AttachOptions {
  /** Program of the terminal; /bin/bash when absent. */
  readonly shell?: string | undefined;
  /** Width in characters; 80 when absent. */
  readonly cols?: number | undefined;
  /** Height in lines; 24 when absent. */
  readonly rows?: number | undefined;
  /** TERM; xterm-256color when absent. */
  readonly term?: string | undefined;
  /** Closes the terminal. */
  readonly signal?: AbortSignal | undefined;
}

export interface AttachExecOptions {
  /** False: only for typing; the output is read elsewhere, such as with `execEvents`. */
  readonly output?: boolean | undefined;
  /** Closes the connection; the command goes on. */
  readonly signal?: AbortSignal | undefined;
}

export interface Exit {
  /** Null where it did not end by itself; then `error` says why. */
  readonly exitCode: number | null;
  readonly error: string | null;
}

/** An open terminal. Closing that of a shell kills the shell with everything that it has started; a command goes on. */
export interface Terminal extends AsyncDisposable {
  /** What the terminal shows. It ends with the shell or command, and errors where `exited` rejects. */
  readonly output: ReadableStream<Uint8Array>;
  /** What a command without a terminal of its own writes to stderr. */
  readonly errors: ReadableStream<Uint8Array>;
  /**
   * How the shell or command has ended. Rejects with the server's error (BOX_NOT_FOUND, BOX_NOT_RUNNING,
   * EXEC_NOT_FOUND), UNAVAILABLE when the connection is lost, CANCELED when it was closed here.
   */
  readonly exited: Promise<Exit>;
  /** Types `data`; resolves when there is room for more. */
  write(data: Uint8Array | string): Promise<void>;
  /** Tells the terminal its new size, in characters and lines. */
  resize(cols: number, rows: number): void;
  /** Ends the input of a command: it reads the end of its stdin. */
  end(): void;
  close(): void;
}

/**
 * Output that nobody reads is kept up to here, then the terminal is closed (bytes): a WebSocket cannot be told to wait.
 */
const unreadBytesMax = 64 * 1024 * 1024;
/** Input waits while so much of it is on its way (bytes) ... */
const unsentBytesMax = 1024 * 1024;
/** ... and looks again after so long (milliseconds): a WebSocket does not tell. */
const unsentPollMs = 5;

/**
 * Opens the WebSocket at `path` of the server; resolves when the connection stands.
 * @param ownerPath what it belongs to: asked for the reason when the WebSocket is refused
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
    // A WebSocket that is refused does not say why; a plain request does.
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
  const closed = promiseWithEnds<void>();
  const exited = promiseWithEnds<Exit>();
  exited.promise.catch(() => undefined); // Whoever wants to know asks.
  let isOver = false;
  let connectionError: unknown = new Error('its WebSocket was closed');
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
  function put({ controller }: ByteQueue, bytes: Uint8Array): void {
    if (controller.desiredSize === null) return; // Canceled: nobody wants it.
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
  function sendControl(word: Fields): void {
    if (!isOver) socket.send(JSON.stringify(word));
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
    fail(transport.errorOf(connectionError, signal));
    closed.resolve();
  });
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

function promiseWithEnds<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: unknown) => void } {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}
