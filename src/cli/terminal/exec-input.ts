// Sends our standard input, or the keys of our terminal, to a command in a box. Only the input takes this way.
// The output comes through the stream of output events (command-output.ts), which survives a lost connection. Input
// does not survive it, because the client cannot know how much of it has arrived.
import { fstatSync } from 'node:fs';
import { BoxRunError, errorText } from '../../shared/errors.ts';
import type { BoxRunClient, Exec, Terminal } from '../../sdk/index.ts';
import { detached, type ExecInput } from '../render/command-output.ts';
import { connectKeys } from './local-terminal.ts';

/**
 * Connects our input to `exec`, which must have been started with `stdin: true`.
 * @param detachKeys null if our input is not a terminal
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
  // Only errors matter here. The exit of the command comes with its output events.
  void terminal.exited.catch(fail);
  const disconnect =
    detachKeys === null
      ? pipeInput(terminal, fail)
      : await connectKeys(terminal, detachKeys, () => {
          over.abort(detached);
        });
  return {
    over: over.signal,
    release() {
      disconnect();
      terminal.close();
    },
  };
}

function pipeInput(terminal: Terminal, fail: (error: unknown) => void): () => void {
  const { stdin } = process;
  let isReleased = false;
  const pipe = async () => {
    // Without this check, Node reads a directory as an empty file.
    if (fstatSync(0).isDirectory()) throw new Error('EISDIR: it is a directory');
    for await (const piece of stdin) await terminal.write(piece as Buffer);
    terminal.end();
  };
  pipe().catch((error: unknown) => {
    // A BoxRunError means that the connection failed; `exited` rejects with that error too.
    if (isReleased || error instanceof BoxRunError) return;
    fail(new BoxRunError('RUNTIME_ERROR', `standard input cannot be read: ${errorText(error)}`, { cause: error }));
  });
  return () => {
    isReleased = true;
    stdin.destroy();
  };
}
