// A link: a connection to another process that connects again by itself when it ends. The pause between two attempts
// doubles up to limits.reconnectLongestMs. A link ends only when it is closed.
import { BoxRunError } from '../errors.ts';
import { sleep } from '../waiting/clock.ts';
import { limits } from '../limits.ts';
import { connectContract, type ConnectOptions, type RequestOptions, type ServerPeer } from './client.ts';
import { timeoutOf, type Contract, type MethodOf, type ParamsOf, type ResultOf } from './contract.ts';

export interface LinkRequestOptions extends RequestOptions {
  /**
   * True: if the connection ends before the answer, the link sends the request again over the next connection, until
   * the deadline. Only for requests that have the same effect when they arrive twice.
   */
  readonly resend?: boolean;
}

export interface Link<C extends Contract> {
  /**
   * @throws UNAVAILABLE at once if the other process is down and `resend` is not set; with `resend`, if there is no
   *   connection until the deadline, also after `close`; else as ServerPeer.request
   */
  request<M extends MethodOf<C>>(
    method: M,
    params: ParamsOf<C, M>,
    options?: LinkRequestOptions,
  ): Promise<ResultOf<C, M>>;
  /** The present connection, or null. */
  readonly peer: ServerPeer<C> | null;
  /** The present connection, or the next one. Rejects with UNAVAILABLE after `timeoutMs` milliseconds. */
  ready(timeoutMs: number): Promise<ServerPeer<C>>;
  close(): void;
}

export interface LinkOptions<C extends Contract> extends ConnectOptions<C> {
  readonly onUp?: (peer: ServerPeer<C>) => void;
  readonly onDown?: (reason: string) => void;
}

/** Makes a link and begins to connect. */
export function createLink<C extends Contract>(options: LinkOptions<C>): Link<C> {
  const stopping = new AbortController();
  const waiters = new Set<(peer: ServerPeer<C>) => void>();
  let peer: ServerPeer<C> | null = null;

  async function keepUp(): Promise<void> {
    let pauseMs: number = limits.reconnectFirstMs;
    while (!stopping.signal.aborted) {
      const connected = await connectContract(options).catch(() => null);
      if (connected === null) {
        await sleep(pauseMs, stopping.signal);
        pauseMs = Math.min(pauseMs * 2, limits.reconnectLongestMs);
        continue;
      }
      if (stopping.signal.aborted) {
        connected.close('the link is closed');
        return;
      }
      pauseMs = limits.reconnectFirstMs;
      peer = connected;
      options.onUp?.(connected);
      for (const waiter of waiters) waiter(connected);
      waiters.clear();
      const reason = await connected.closed;
      peer = null;
      options.onDown?.(reason);
    }
  }
  void keepUp();

  function ready(timeoutMs: number): Promise<ServerPeer<C>> {
    if (peer !== null) return Promise.resolve(peer);
    return new Promise((resolve, reject) => {
      const waiter = (connected: ServerPeer<C>) => {
        clearTimeout(timer);
        resolve(connected);
      };
      const timer = setTimeout(() => {
        waiters.delete(waiter);
        reject(new BoxRunError('UNAVAILABLE', `the ${options.contract.name} is not there`));
      }, timeoutMs);
      waiters.add(waiter);
    });
  }

  return {
    get peer() {
      return peer;
    },
    ready,
    async request(method, params, requestOptions = {}) {
      const deadline = Date.now() + (requestOptions.timeoutMs ?? timeoutOf(options.contract, method, params));
      for (;;) {
        const leftMs = Math.max(1, deadline - Date.now());
        if (peer === null && !requestOptions.resend) {
          throw new BoxRunError('UNAVAILABLE', `the ${options.contract.name} is not there`, {
            hint: 'it is restarting; try again in a second',
          });
        }
        const connected = peer ?? (await ready(leftMs));
        try {
          return await connected.request(method, params, { ...requestOptions, timeoutMs: leftMs });
        } catch (error) {
          const lost = error instanceof BoxRunError && error.code === 'UNAVAILABLE' && !connected.isOpen;
          if (!lost || !requestOptions.resend || Date.now() >= deadline) throw error;
        }
      }
    },
    close() {
      stopping.abort();
      peer?.close('the link is closed');
    },
  };
}
