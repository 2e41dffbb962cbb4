// Creates a box for `shell`, for `run -d`, and for a `run` that the server's run cannot do (-i, -t, -w, -u, --name,
// --label). After an interrupt during the create no such box stays behind: the command waits for the box and then
// removes it. Afterwards the caller decides: `run -d` keeps the box.
import type { Box, BoxRunClient, CreateBoxInput } from '../../sdk/index.ts';
import type { Interrupts } from '../interrupt.ts';
import { createWithProgress } from '../render/waiting.ts';

/** Returns the box, or the exit code after an interrupt. A second interrupt ends this process at once. */
export async function createOwnBox(
  client: BoxRunClient,
  input: CreateBoxInput,
  interrupts: Interrupts,
): Promise<{ readonly box: Box } | { readonly exitCode: number }> {
  const interrupt = interrupts.catch();
  interrupt.signal.addEventListener('abort', () => {
    if (!interrupt.isQuiet()) process.stderr.write('\nboxrun: canceled; waiting for the box, to remove it\n');
  });
  try {
    const box = await createWithProgress(client, input);
    if (!interrupt.signal.aborted) return { box };
    await client.removeBox(box.id, { force: true });
    return { exitCode: interrupt.exitCode() };
  } catch (error) {
    if (interrupt.signal.aborted) return { exitCode: interrupt.exitCode() };
    throw error;
  } finally {
    interrupt.release();
  }
}
