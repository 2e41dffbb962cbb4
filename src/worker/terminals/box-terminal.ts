// The terminals in the box, and the input of commands. A terminal is a shell whose bytes go over one stream; it has no
// row in the database. When its stream ends before the shell, its whole process tree is killed. Background programs
// outlive a shell that ends by itself. A command goes on when the stream of its input ends.
import type { Writable } from 'node:stream';
import { sleep } from '../../shared/waiting/clock.ts';
import { StreamControl, type StreamOperation } from '../../shared/contracts/worker.ts';
import { BoxRunError, errorText } from '../../shared/errors.ts';
import { newId } from '../../shared/ids.ts';
import { fits } from '../../shared/ipc/contract.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { limits } from '../../shared/limits.ts';
import type { Logger } from '../../shared/observe/log.ts';
import type { Driver, ExecHandle } from '../drivers/driver-contract.ts';

export interface Terminals {
  /**
   * Runs a shell until the shell or the stream ends.
   * @throws RUNTIME_ERROR when the engine lost the shell; CANCELED when the client closed the terminal;
   *   RESOURCE_EXCEEDED when the shell does not read its input
   */
  serve(operation: Attach, stream: ByteStream): Promise<void>;
  /** Kills the process trees of all terminals. */
  killAll(): Promise<void>;
}

type Attach = Extract<StreamOperation, { kind: 'attach' }>;

const defaultShell = '[ -x /bin/bash ] && exec /bin/bash; exec /bin/sh';

export function createTerminals(driver: Pick<Driver, 'exec' | 'busyboxPath'>, log: Logger): Terminals {
  const open = new Set<ExecHandle>();

  async function kill(handle: ExecHandle): Promise<void> {
    await handle.killTree().catch((error: unknown) => {
      log.error({ err: error }, 'a terminal could not be killed');
    });
    open.delete(handle);
  }

  return {
    async serve({ shell, tty }, stream) {
      const handle = await driver.exec({
        execId: newId('exec'),
        cmd: shell === null ? [driver.busyboxPath, 'sh', '-c', defaultShell] : [shell],
        env: { TERM: tty.term },
        workdir: null,
        user: null,
        tty,
        stdin: true,
      });
      open.add(handle);
      handle.stderr.resume();
      const inputEnd = new AbortController();
      const input = passInput(handle, stream).catch((error: unknown) => {
        inputEnd.abort(error);
      });
      let hasExited = false;
      try {
        const output = passOutput(handle, stream);
        const code = await Promise.race([output, rejectOnAbort(inputEnd.signal)]);
        hasExited = true;
        await stream.control({ type: 'exit', code });
      } finally {
        if (hasExited) open.delete(handle);
        else await kill(handle);
        handle.stdout.destroy();
        void input;
      }
    },
    async killAll() {
      await Promise.all([...open].map(kill));
    },
  };
}

/**
 * Sends the output of the terminal to the client until the shell has ended.
 * @returns the exit code of the shell
 */
async function passOutput(handle: ExecHandle, stream: ByteStream): Promise<number | null> {
  const output = (async () => {
    for await (const piece of handle.stdout) await stream.send(piece as Buffer);
  })();
  output.catch(() => undefined);
  const exit = await Promise.race([handle.exit, output.then(() => handle.exit)]);
  // Children of the shell may hold the terminal open, so the wait for the end of the output has a bound.
  const pause = new AbortController();
  await Promise.race([output, sleep(limits.exitDrainMs, pause.signal)]);
  pause.abort();
  if ('lost' in exit) throw new BoxRunError('RUNTIME_ERROR', exit.lost);
  return exit.exitCode;
}

/**
 * Writes the client's bytes into the terminal. It reads from the stream even when the shell does not read: only then
 * does it notice that the client has closed the stream. Input that the shell has not read waits in memory, up to a
 * bound.
 * @throws CANCELED when the client has closed the stream, RESOURCE_EXCEEDED past limits.terminalInputBytesMax
 */
async function passInput(handle: ExecHandle, stream: ByteStream): Promise<never> {
  const { stdin } = handle;
  stdin?.on('error', () => undefined); // The shell has ended. Its exit is reported elsewhere.
  for (let item = await stream.next(); item !== null; item = await stream.next()) {
    if ('bytes' in item) {
      if (stdin?.writable === true) stdin.write(item.bytes);
      if ((stdin?.writableLength ?? 0) > limits.terminalInputBytesMax) {
        throw new BoxRunError('RESOURCE_EXCEEDED', 'the program in the terminal does not read its input');
      }
    } else {
      await applyControl(item.control, handle, () => undefined);
    }
  }
  throw new BoxRunError('CANCELED', 'the terminal was closed');
}

/**
 * Passes bytes and control messages from a client to a running command until the stream ends. The command then goes on.
 * When the command does not read its input, the client has to wait.
 * @throws VALIDATION_ERROR when the command has no input
 */
export async function feedInput(handle: ExecHandle, stream: ByteStream): Promise<void> {
  const { stdin } = handle;
  if (stdin === null)
    throw new BoxRunError('VALIDATION_ERROR', 'the command was started without stdin', {
      hint: 'start it with "stdin": true',
    });
  for (let item = await stream.next(); item !== null; item = await stream.next()) {
    if ('bytes' in item) await writeAll(stdin, item.bytes);
    else await applyControl(item.control, handle, () => stdin.end());
  }
}

async function applyControl(value: unknown, handle: ExecHandle, onEof: () => void): Promise<void> {
  if (!fits(StreamControl, value)) throw new BoxRunError('VALIDATION_ERROR', 'this control message is not known');
  const control = value as StreamControl;
  if (control.type === 'eof') onEof();
  else await handle.resize(control.cols, control.rows);
}

async function writeAll(stdin: Writable, bytes: Uint8Array): Promise<void> {
  if (!stdin.writable) return; // The command has ended, or it has closed its input.
  await new Promise<void>((resolve) => {
    stdin.write(bytes, () => {
      resolve();
    });
  });
}

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener(
      'abort',
      () => {
        reject(signal.reason instanceof Error ? signal.reason : new Error(errorText(signal.reason)));
      },
      { once: true },
    );
  });
}
