// Creates a box that belongs to this command, as `run -i` and `shell` do. After an interrupt no such box stays behind:
// the server cannot stop a create on request, so the command waits for the box and then removes it.
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
