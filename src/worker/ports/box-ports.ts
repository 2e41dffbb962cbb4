// The ports of a box: which ones processes listen at, and connections to them. Both are commands of the driver in the
// box, so they need no network, and reach nothing outside of the box. The list is read by a script for the driver's
// busybox. Connections and waiting requests together have a bound.
import type { ListeningPort } from '../../shared/api.ts';
import type { PortWait, StreamOperation } from '../../shared/contracts/worker.ts';
import { BoxRunError } from '../../shared/errors.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { Driver, ExecHandle } from '../drivers/driver-contract.ts';
import { runScript } from '../files/run-script.ts';
import { carryPort } from './port-connection.ts';
import { lateText, listeningPorts, portsScript } from './port-list.ts';

export interface BoxPorts {
  /**
   * The ports at which processes listen. With `port`, it waits until that one is among them.
   * @throws TIMEOUT if that takes longer than `waitMs`; TOO_MANY_REQUESTS, RUNTIME_ERROR, CANCELED
   */
  list(wait: PortWait, signal: AbortSignal): Promise<ListeningPort[]>;
  /** Makes a connection and carries its bytes until it ends. @throws as carryPort; TOO_MANY_REQUESTS */
  connect(operation: PortOperation, stream: ByteStream): Promise<void>;
  /** Ends all connections. */
  closeAll(): Promise<void>;
}

type PortOperation = Extract<StreamOperation, { kind: 'port' }>;

/** Pauses between two looks of the script at the ports, per second. */
const looksPerS = 20;

export function createBoxPorts(
  driver: Pick<Driver, 'exec' | 'busyboxPath' | 'agentPath' | 'outputIsExact'>,
  log: Logger,
): BoxPorts {
  const open = new Set<ExecHandle>();
  let count = 0;

  async function counted<T>(work: () => Promise<T>): Promise<T> {
    if (count >= limits.portConnectionsMax) {
      throw new BoxRunError('TOO_MANY_REQUESTS', `the box has ${count} connections to its ports already`, {
        hint: 'close some, and try again',
      });
    }
    count++;
    try {
      return await work();
    } finally {
      count--;
    }
  }

  async function kill(handle: ExecHandle): Promise<void> {
    await handle.killTree().catch((error: unknown) => {
      log.error({ err: error }, 'a connection to a port could not be ended');
    });
    open.delete(handle);
  }

  return {
    list: ({ port, waitMs = 0 }, signal) =>
      counted(async () => {
        const looks = Math.ceil((waitMs * looksPerS) / 1_000);
        const args = [port === undefined ? '' : port.toString(16).toUpperCase().padStart(4, '0'), String(looks)];
        const deadlineMs = limits.fileAnswerMs + waitMs;
        const text = await runScript(driver, portsScript, [...args, `${1 / looksPerS}`], { deadlineMs, signal });
        if (!text.startsWith(lateText)) return listeningPorts(text);
        throw new BoxRunError('TIMEOUT', `no process of the box listens at port ${port} after ${waitMs / 1_000} s`, {
          hint: 'GET /v1/boxes/{box}/ports lists the ports at which processes listen',
        });
      }),

    connect: ({ host, port }, stream) =>
      counted(async () => {
        const onStart = (handle: ExecHandle) => {
          open.add(handle);
          void handle.exit.then(() => open.delete(handle));
        };
        await carryPort(driver, { host, port, stream, onStart, kill });
      }),

    async closeAll() {
      await Promise.all([...open].map(kill));
    },
  };
}
