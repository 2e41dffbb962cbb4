// The client's side of a contract: one connection to a server, requests with a deadline and a cancel, and notices in
// their order. When the connection ends, every request without an answer fails with UNAVAILABLE.
import { BoxRunError, errorText } from '../errors.ts';
import { noSignOfLife, watchHeartbeat, type Heartbeat } from '../waiting/heartbeat.ts';
import { limits } from '../limits.ts';
import { createConnection, type Connection } from './connection.ts';
import {
  fits,
  type ClientHello,
  type Contract,
  type MethodOf,
  type NoticeName,
  type NoticeOf,
  type ParamsOf,
  type ResultOf,
  type ServerHello,
  timeoutOf,
} from './contract.ts';
import { connectTo } from './socket.ts';
import { decodeError, type WireMessage } from './wire.ts';

export interface RequestOptions {
  /** Milliseconds. The default is what the contract says. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
  /**
   * True: after an abort the client still waits for the answer. For requests that make something: the server may have
   * made it before the cancel arrived.
   */
  readonly waitAfterAbort?: boolean;
  readonly onProgress?: ((stage: string, message: string) => void) | undefined;
  /** The id of the HTTP request that caused this one, for the log of the other side. */
  readonly requestId?: string;
}

export interface ServerPeer<C extends Contract> {
  readonly hello: ServerHello<C>;
  /**
   * @throws UNAVAILABLE if the connection ends first, TIMEOUT at the deadline, CANCELED when the signal aborts, or the
   *   server's error
   */
  request<M extends MethodOf<C>>(method: M, params: ParamsOf<C, M>, options?: RequestOptions): Promise<ResultOf<C, M>>;
  /** Resolves with the reason when the connection has ended. */
  readonly closed: Promise<string>;
  readonly isOpen: boolean;
  /** False while the server is silent (limits.heartbeatDoubtMisses). Without heartbeats, true while it is open. */
  readonly isAnswering: boolean;
  close(reason: string): void;
}

export type NoticeHandlers<C extends Contract> = {
  readonly [N in NoticeName<C>]: (payload: NoticeOf<C, N>) => void;
};

interface Waiting {
  readonly method: string;
  readonly settle: (outcome: { value: unknown } | { error: BoxRunError }) => void;
  readonly onProgress: ((stage: string, message: string) => void) | undefined;
}

export interface ConnectOptions<C extends Contract> {
  readonly path: string;
  readonly contract: C;
  readonly hello: ClientHello<C>;
  readonly notices: NoticeHandlers<C>;
  /** Milliseconds without a sign of life after which the connection is closed. Absent: no heartbeats. */
  readonly silenceMs?: number;
  /** Called with the duration of each request in seconds, also of one that failed. */
  readonly observe?: (method: string, seconds: number) => void;
}

/**
 * Connects to a server and exchanges hellos.
 * @throws UNAVAILABLE if no server answers, or if it has another contract
 */
export async function connectContract<C extends Contract>(options: ConnectOptions<C>): Promise<ServerPeer<C>> {
  const { contract } = options;
  const socket = await connectTo(options.path);
  const waiting = new Map<number, Waiting>();
  let welcome: ((hello: ServerHello<C>) => void) | null = null;
  let heartbeat: Heartbeat | null = null;
  const connection = createConnection(socket, (message) => {
    heartbeat?.heard();
    if (welcome !== null) {
      welcome(readHello(message, contract));
      welcome = null;
      return;
    }
    receive(message, options, waiting);
  });
  void connection.closed.then((reason) => {
    const error = new BoxRunError('UNAVAILABLE', `the connection to the ${contract.name} ended: ${reason}`);
    for (const entry of waiting.values()) entry.settle({ error });
  });
  connection.send(['hello', contract.name, contract.version, options.hello]);
  const hello = await new Promise<ServerHello<C>>((resolve, reject) => {
    welcome = resolve;
    const timer = setTimeout(() => {
      connection.close('no hello');
    }, limits.helloTimeoutMs);
    void connection.closed.then((reason) => {
      reject(new BoxRunError('UNAVAILABLE', `the ${contract.name} did not say hello: ${reason}`));
    });
    void connection.closed.finally(() => {
      clearTimeout(timer);
    });
    const done = welcome;
    welcome = (value) => {
      clearTimeout(timer);
      done(value);
    };
  });
  if (options.silenceMs !== undefined) heartbeat = heartbeatOf(connection, options.silenceMs);
  return createPeer(connection, waiting, { ...options, welcome: hello, heartbeat });
}

function heartbeatOf(connection: Connection, silenceMs: number): Heartbeat {
  const heartbeat = watchHeartbeat({
    silenceMs,
    ask: () => {
      connection.send(['ping']);
    },
    onSilent: () => {
      connection.close(noSignOfLife);
    },
  });
  void connection.closed.then(heartbeat.stop);
  return heartbeat;
}

function readHello<C extends Contract>(message: WireMessage, contract: C): ServerHello<C> {
  if (message[0] !== 'hello') throw new Error('the first message was no hello');
  const [, name, version, identity] = message;
  if (name !== contract.name || Math.abs(version - contract.version) > 1) {
    throw new Error(`speaks ${name} ${version}, not ${contract.name} ${contract.version}`);
  }
  if (!fits(contract.serverHello, identity)) throw new Error('its hello does not fit the contract');
  return identity as ServerHello<C>;
}

function receive<C extends Contract>(
  message: WireMessage,
  { contract, notices }: ConnectOptions<C>,
  waiting: Map<number, Waiting>,
): void {
  if (message[0] === 'pong') return;
  if (message[0] === 'notice') {
    const [, name, payload] = message;
    const schema = Object.hasOwn(contract.notices, name) ? contract.notices[name] : undefined;
    if (schema === undefined || !fits(schema, payload)) throw new Error(`a notice ${name} that does not fit`);
    notices[name as NoticeName<C>](payload as NoticeOf<C, NoticeName<C>>);
    return;
  }
  if (message[0] !== 'result' && message[0] !== 'error' && message[0] !== 'progress') {
    throw new Error(`a ${message[0]} is not for a client`);
  }
  const entry = waiting.get(message[1]);
  if (entry === undefined) return; // The caller has given up.
  if (message[0] === 'progress') {
    entry.onProgress?.(message[2], message[3]);
  } else if (message[0] === 'error') {
    entry.settle({ error: decodeError(message[2]) });
  } else {
    const schema = contract.requests[entry.method]?.result;
    if (schema === undefined || !fits(schema, message[2]))
      throw new Error(`the result of ${entry.method} does not fit`);
    entry.settle({ value: message[2] });
  }
}

function createPeer<C extends Contract>(
  connection: Connection,
  waiting: Map<number, Waiting>,
  {
    welcome,
    heartbeat,
    contract,
    observe,
  }: Pick<ConnectOptions<C>, 'contract' | 'observe'> & { welcome: ServerHello<C>; heartbeat: Heartbeat | null },
): ServerPeer<C> {
  let lastId = 0;
  return {
    hello: welcome,
    closed: connection.closed,
    get isOpen() {
      return connection.isOpen;
    },
    get isAnswering() {
      return connection.isOpen && (heartbeat?.isAnswering ?? true);
    },
    close: connection.close,
    request<M extends MethodOf<C>>(method: M, params: ParamsOf<C, M>, options: RequestOptions = {}) {
      if (!connection.isOpen) return Promise.reject(new BoxRunError('UNAVAILABLE', 'the connection has ended'));
      if (options.signal?.aborted) return Promise.reject(new BoxRunError('CANCELED', `${method} was canceled`));
      const id = ++lastId;
      const timeoutMs = options.timeoutMs ?? timeoutOf(contract, method, params);
      const startedAt = performance.now();
      return new Promise<ResultOf<C, M>>((resolve, reject) => {
        const giveUp = (error: BoxRunError) => {
          connection.send(['cancel', id]);
          settle({ error });
        };
        const onAbort = () => {
          if (options.waitAfterAbort) connection.send(['cancel', id]);
          else giveUp(new BoxRunError('CANCELED', `${method} was canceled`));
        };
        const timer = setTimeout(() => {
          giveUp(new BoxRunError('TIMEOUT', `${method} got no answer within ${timeoutMs} ms`));
        }, timeoutMs);
        const settle: Waiting['settle'] = (outcome) => {
          clearTimeout(timer);
          observe?.(method, (performance.now() - startedAt) / 1000);
          options.signal?.removeEventListener('abort', onAbort);
          waiting.delete(id);
          if ('error' in outcome) reject(outcome.error);
          else resolve(outcome.value as ResultOf<C, M>);
        };
        options.signal?.addEventListener('abort', onAbort, { once: true });
        waiting.set(id, { method, settle, onProgress: options.onProgress });
        try {
          connection.send(['request', id, method, timeoutMs, params, options.requestId ?? null]);
        } catch (error) {
          settle({
            error: new BoxRunError('RUNTIME_ERROR', `${method} cannot be sent: ${errorText(error)}`, { cause: error }),
          });
        }
      });
    },
  };
}
