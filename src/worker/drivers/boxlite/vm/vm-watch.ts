// Notices the end of a VM that nobody asked for. It holds a connection to the guest agent's socket open, and says
// nothing on it: the kernel closes it the moment the VM's process is gone, whoever started that process. The engine's
// own exit watch sees the jail's outer process only. Called by driver.ts for every running box.
import { connect, type Socket } from 'node:net';
import { sleep } from '../../../../shared/waiting/clock.ts';

export interface VmWatchOptions {
  readonly socketPath: string;
  /** Asked when the connection breaks: the agent may have closed it for a reason of its own. */
  readonly isVmAlive: () => Promise<boolean>;
  readonly onEnd: () => void;
}

export interface VmWatch {
  stop(): void;
}

/** A process that is dying shows for a moment longer than its sockets. */
const dyingMs = 1_000;
const dyingStepMs = 20;
const reconnectMs = 1_000;

export function watchVm(options: VmWatchOptions): VmWatch {
  let stopped = false;
  let socket: Socket | null = null;

  async function connectionBroke(): Promise<void> {
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
    connection.on('close', () => void connectionBroke());
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
