// Our input, as that of a command in a box: byte by byte until its end, or a terminal's keys. Used by exec; the
// command's output comes another way (output.ts), which goes on over lost connections. Input cannot: nobody knows how
// much of it has arrived.
import { fstatSync } from 'node:fs';
import { BoxRunError, errorText } from '../../shared/errors.ts';
import type { BoxRunClient, Exec, Terminal } from '../../sdk/index.ts';
import { detached, type ExecInput } from '../render/command-output.ts';
import { connectKeys } from './local-terminal.ts';

/**
 * Connects our input with that of `exec`, which was started with `stdin`. `detachKeys` are null unless our input is a
 * terminal.
 */
export async function feedExec(
  client: BoxRunClient,
  exec: Exec,
  detachKeys: readonly number[] | null,
): Promise<ExecInput> {
  const terminal = await client.attachExec(exec.box_id, exec.id, { output: false });
  const over = new AbortController();
  const fail = (error: unknown) => {
    over.abort(error);
  };
  // The end of the command is told with its output.
  void terminal.exited.catch(fail);
  const release =
    detachKeys === null
      ? pipeInput(terminal, fail)
      : await connectKeys(terminal, detachKeys, () => {
          over.abort(detached);
        });
  return {
    over: over.signal,
    release() {
      release();
      terminal.close();
    },
  };
}

function pipeInput(terminal: Terminal, fail: (error: unknown) => void): () => void {
  const { stdin } = process;
  let isReleased = false;
  const pipe = async () => {
    // Node would take it for an empty file.
    if (fstatSync(0).isDirectory()) throw new Error('EISDIR: it is a directory');
    for await (const piece of stdin) await terminal.write(piece as Buffer);
    terminal.end();
  };
  pipe().catch((error: unknown) => {
    // That the other side is gone, `exited` tells.
    if (isReleased || error instanceof BoxRunError) return;
    fail(new BoxRunError('RUNTIME_ERROR', `standard input cannot be read: ${errorText(error)}`, { cause: error }));
  });
  return () => {
    isReleased = true;
    stdin.destroy();
  };
}
