// The watch on a running VM. It notices at once when the VM ends by itself. It holds a connection to the socket of the
// guest agent, and sends nothing on it. The kernel closes the connection when the process of the VM ends. The engine's
// own watch only sees the outer process of the jail.
import { connect, type Socket } from 'node:net';
import { sleep } from '../../../../shared/waiting/clock.ts';

export interface VmWatchOptions {
  readonly socketPath: string;
  /** Called when the connection closes, because the agent may also close it while the VM lives. */
  readonly isVmAlive: () => Promise<boolean>;
  readonly onEnd: () => void;
}

export interface VmWatch {
  stop(): void;
}

/** A process that ends closes its sockets first. So it may still be visible for this long. */
const dyingMs = 1_000;
const dyingStepMs = 20;
const reconnectMs = 1_000;

export function watchVm(options: VmWatchOptions): VmWatch {
  let stopped = false;
  let socket: Socket | null = null;

  async function handleClose(): Promise<void> {
    const deadline = Date.now() + dyingMs;
    while (!stopped && Date.now() < deadline) {
      if (!(await options.isVmAlive())) {
        end();
        return;
      }
      await sleep(dyingStepMs);
    }
    await sleep(reconnectMs);
    if (!stopped) open();
  }

  function end(): void {
    if (stopped) return;
    stopped = true;
    options.onEnd();
  }

  function open(): void {
    const connection = connect(options.socketPath);
    socket = connection;
    connection.on('error', () => undefined); // 'close' follows.
    connection.on('close', () => void handleClose());
    connection.resume();
  }

  open();
  return {
    stop() {
      stopped = true;
      socket?.destroy();
    },
  };
}
