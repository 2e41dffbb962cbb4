// Terminals in the box: a shell whose bytes go over a stream, without a row in the database. It lives as long as its
// stream: who leaves takes the shell and everything started in it along. Also the input of commands, which outlive the
// streams that feed them.
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
  /** Runs a shell until it or the stream ends. @throws what is for the other side */
  serve(operation: Attach, stream: ByteStream): Promise<void>;
  /** Ends all of them. */
  end(): Promise<void>;
}

type Attach = Extract<StreamOperation, { kind: 'attach' }>;

const defaultShell = '[ -x /bin/bash ] && exec /bin/bash; exec /bin/sh';

export function createTerminals(driver: Pick<Driver, 'exec' | 'busyboxPath'>, log: Logger): Terminals {
  const open = new Set<ExecHandle>();

  async function kill(handle: ExecHandle): Promise<void> {
    await handle.killTree().catch((error: unknown) => {
      log.error({ err: error }, 'a terminal could not be ended');
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
      const left = new AbortController();
      const typing = typeInto(handle, stream).catch((error: unknown) => {
        left.abort(error);
      });
      let isOver = false;
      try {
        const showing = show(handle, stream);
        const code = await Promise.race([showing, once(left.signal)]);
        isOver = true;
        await stream.control({ type: 'exit', code });
      } finally {
        if (isOver) open.delete(handle);
        else await kill(handle);
        handle.stdout.destroy();
        void typing;
      }
    },
    async end() {
      await Promise.all([...open].map(kill));
    },
  };
}

/** Everything that the terminal shows, until its shell has ended. */
async function show(handle: ExecHandle, stream: ByteStream): Promise<number | null> {
  const output = (async () => {
    for await (const piece of handle.stdout) await stream.send(piece as Buffer);
  })();
  output.catch(() => undefined);
  const exit = await Promise.race([handle.exit, output.then(() => handle.exit)]);
  // Children may hold the terminal open.
  const pause = new AbortController();
  await Promise.race([output, sleep(limits.exitDrainMs, pause.signal)]);
  pause.abort();
  if ('lost' in exit) throw new BoxRunError('RUNTIME_ERROR', exit.lost);
  return exit.exitCode;
}

/**
 * Rejects when the client has left, or typed more than is read. A terminal's input is always taken, so that its end is
 * noticed.
 */
async function typeInto(handle: ExecHandle, stream: ByteStream): Promise<never> {
  const { stdin } = handle;
  stdin?.on('error', () => undefined); // The shell has ended; its exit says so.
  for (let item = await stream.next(); item !== null; item = await stream.next()) {
    if ('bytes' in item) {
      if (stdin?.writable === true) stdin.write(item.bytes);
      if ((stdin?.writableLength ?? 0) > limits.terminalInputBytesMax) {
        throw new BoxRunError('RESOURCE_EXCEEDED', 'the program in the terminal does not read its input');
      }
    } else {
      await obey(item.control, handle, () => undefined);
    }
  }
  throw new BoxRunError('CANCELED', 'the terminal was closed');
}

/**
 * Bytes and words for a running command, until the stream ends; the command goes on. Input waits for the command to
 * read.
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
    else await obey(item.control, handle, () => stdin.end());
  }
}

async function obey(word: unknown, handle: ExecHandle, onEof: () => void): Promise<void> {
  if (!fits(StreamControl, word)) throw new BoxRunError('VALIDATION_ERROR', 'this word of control is not known');
  const control = word as StreamControl;
  if (control.type === 'eof') onEof();
  else await handle.resize(control.cols, control.rows);
}

async function writeAll(stdin: Writable, bytes: Uint8Array): Promise<void> {
  if (!stdin.writable) return; // It has ended, or closed its input.
  await new Promise<void>((resolve) => {
    stdin.write(bytes, () => {
      resolve();
    });
  });
}

function once(signal: AbortSignal): Promise<never> {
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
