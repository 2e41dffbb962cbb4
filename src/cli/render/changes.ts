// Prints state events (changes of boxes and commands) as lines, until an interrupt.
// It goes on when the server restarts, and it prints a warning if changes were missed.
import type { BoxRunClient, StateEvent } from '../../sdk/index.ts';
import type { Interrupt } from '../interrupt.ts';
import { passOn } from './command-output.ts';
import { renderCommand, withoutControls } from './render.ts';

interface ChangesOptions {
  /** Id of the last event that the caller has seen; undefined begins now. */
  readonly since: string | undefined;
  /** Prints one JSON object on each line. */
  readonly json: boolean;
}

/** Returns the exit code of the interrupt. @throws UNAVAILABLE if the server stays away */
export async function printChanges(
  client: BoxRunClient,
  { since, json }: ChangesOptions,
  interrupt: Interrupt,
): Promise<number> {
  const { signal } = interrupt;
  let isLost = false;
  const onLost = () => {
    if (!isLost && !signal.aborted) process.stderr.write('boxrun: the connection was lost; trying again\n');
    isLost = true;
  };
  try {
    for await (const event of client.events({ ...(since === undefined ? {} : { since }), onLost, signal })) {
      isLost = false;
      if (event.type === 'reset' && !json) process.stderr.write('boxrun: some changes were missed; see: boxrun ls\n');
      const line = json ? JSON.stringify(event) : renderChange(event);
      if (line !== null) await passOn(process.stdout, Buffer.from(`${line}\n`), signal);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  return interrupt.exitCode();
}

/** Null for an event that is not a change (`ready`, `reset`). */
function renderChange(event: StateEvent): string | null {
  if (event.type === 'ready' || event.type === 'reset') return null;
  const words =
    'box' in event
      ? [event.box.id, event.box.name ?? '-', event.box.status, event.box.error_message ?? event.box.image]
      : [event.exec.id, event.exec.box_id, renderState(event.exec), renderCommand(event.exec.cmd)];
  return withoutControls([event.at, event.type.padEnd('exec.finished'.length), ...words].join('  '));
}

function renderState({ status, exit_code: exitCode }: { status: string; exit_code: number | null }): string {
  return exitCode === null ? status : `${status} (${exitCode})`;
}
