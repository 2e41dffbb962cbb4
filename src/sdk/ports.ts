// The ports of a box: what listens, connections to it, and local ports that lead to it. Connections and local ports
// need Node; a browser uses the URL of a port.
import type { BoxPort, PortLink } from '../shared/api.ts';
import { BoxRunError } from '../shared/errors.ts';
import type { CallOptions } from './options.ts';
import type { PlatformPorts, PortConnection } from './platform.ts';
import type { Transport } from './transport.ts';

export interface WaitForPortOptions extends CallOptions {
  /** Longest time to wait, in seconds, at most 300; 30 when absent. */
  readonly timeoutS?: number | undefined;
}

export interface ConnectPortOptions extends CallOptions {
  /** An address of the box itself. When absent, its loopback addresses. */
  readonly host?: string | undefined;
}

export interface ForwardOptions extends ConnectPortOptions {
  /** The local port; when absent or 0, the system chooses one. */
  readonly localPort?: number | undefined;
  /** The local address; 127.0.0.1 when absent. With another one, other hosts may be able to connect. */
  readonly address?: string | undefined;
  /** Called when a connection to the box fails. Its local connection is reset. */
  readonly onError?: ((error: BoxRunError) => void) | undefined;
}

/** A local port that leads to a port of a box, until it is closed. */
export interface PortForward extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
  /** Takes no more connections, and closes the open ones. */
  close(): Promise<void>;
}

/** The ports of one box. Each method may throw BOX_NOT_FOUND, BOX_NOT_RUNNING and TOO_MANY_REQUESTS. */
export interface BoxPorts {
  /** The TCP ports at which processes of the box listen. */
  list(options?: CallOptions): Promise<BoxPort[]>;
  /** Waits until a process listens at the port. @throws TIMEOUT */
  wait(port: number, options?: WaitForPortOptions): Promise<BoxPort>;
  /** Connects to a port, from inside the box. @throws PORT_NOT_OPEN; VALIDATION_ERROR, also in browsers */
  connect(port: number, options?: ConnectPortOptions): Promise<PortConnection>;
  /**
   * Listens at a local port. Each connection to it becomes a connection to the port of the box.
   * @throws UNAVAILABLE if the local port is in use, VALIDATION_ERROR in browsers
   */
  forward(port: number, options?: ForwardOptions): Promise<PortForward>;
  /** A link to the URL of a port, for one browser. It works once, and only for a short time. */
  link(port: number, options?: CallOptions): Promise<PortLink>;
}

const waitDefaultS = 30;

/** @param path that of the box, as in `/v1/boxes/web` */
export function createBoxPorts(transport: Transport, path: string): BoxPorts {
  const { platform } = transport;
  const connectPath = (port: number, host: string | undefined) =>
    `${path}/ports/${port}${host === undefined ? '' : `?host=${encodeURIComponent(host)}`}`;
  const connect = async (port: number, { host, signal }: ConnectPortOptions = {}) => {
    try {
      return await portsOf(platform.ports).connect(connectPath(port, host), signal);
    } catch (error) {
      throw transport.errorOf(error, signal);
    }
  };
  return {
    list: ({ signal } = {}) => transport.json({ method: 'GET', path: `${path}/ports`, signal }),
    async wait(port, { timeoutS = waitDefaultS, signal } = {}) {
      const request = { method: 'GET', path: `${path}/ports?port=${port}&wait=${timeoutS}`, signal } as const;
      const found = (await transport.json<BoxPort[]>(request)).find((each) => each.port === port);
      if (found === undefined) throw new BoxRunError('TIMEOUT', `nothing in the box listens at port ${port}`);
      return found;
    },
    connect,
    forward: async (port, { localPort = 0, address = '127.0.0.1', onError, ...options } = {}) => {
      const forward = await portsOf(platform.ports).listen({
        ...{ address, port: localPort },
        connect: () => connect(port, options),
        onError: (error) => onError?.(transport.errorOf(error, options.signal)),
      });
      const stop = () => void forward.close();
      options.signal?.addEventListener('abort', stop, { once: true });
      const removeCloseListener = transport.onClose(stop);
      const close = async () => {
        removeCloseListener();
        options.signal?.removeEventListener('abort', stop);
        await forward.close();
      };
      if (options.signal?.aborted === true) await close();
      return { ...forward, close, [Symbol.asyncDispose]: close };
    },
    link: (port, { signal } = {}) => transport.json({ method: 'POST', path: `${path}/ports/${port}/link`, signal }),
  };
}

function portsOf(ports: PlatformPorts | null): PlatformPorts {
  if (ports !== null) return ports;
  throw new BoxRunError('VALIDATION_ERROR', 'a browser cannot make TCP connections', {
    hint: 'open the `url` of the port, which `box.ports.list()` gives',
  });
}
