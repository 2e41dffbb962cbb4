// Prints the output events of one command, from the first one.
// It only reads: an interrupt ends the printing, never the command.
import type { Exec, BoxRunClient, ExecEvent } from '../../sdk/index.ts';
import type { Interrupt } from '../interrupt.ts';
import { passOn } from './command-output.ts';
import { renderCommand, withoutControls } from './render.ts';

/** Bytes of the lines that `logs --tail` keeps. With more, it prints fewer lines. */
const tailBytesMax = 64 * 1024 * 1024;

interface LogsOptions {
  /** Goes on until the command ends. If false, prints only the output that exists now. */
  readonly follow: boolean;
  /** Prints one JSON object on each line instead of the bytes. */
  readonly json: boolean;
  /** Prints only this number of lines of the output that exists now. Null: all lines. */
  readonly tailLines: number | null;
}

/** Returns the exit code: 0, or that of the interrupt. @throws UNAVAILABLE if the server stays away */
export async function printEvents(
  client: BoxRunClient,
  exec: Exec,
  { follow, json, tailLines }: LogsOptions,
  interrupt: Interrupt,
): Promise<number> {
  const { signal } = interrupt;
  try {
    let after: number | undefined;
    if (tailLines !== null) {
      const { last, isOver } = await printTail(client, exec, tailLines, signal);
      if (isOver || !follow) return 0;
      after = last;
    }
    for await (const event of client.execEvents(exec, { follow, signal, after })) {
      if (json) await printLine(jsonOf(event), signal);
      else if (event.type === 'log')
        await passOn(event.stream === 'stdout' ? process.stdout : process.stderr, event.bytes, signal);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  return signal.aborted ? interrupt.exitCode() : 0;
}

/**
 * Prints the output that exists now of all commands of a box, the oldest command first. A line on stderr names each
 * command, so stdout has nothing but output. With `json` the line of each event has the id of its command.
 * @param options.sinceMs only commands that began then or later, in milliseconds since 1970; null: all
 * @returns the exit code: 0, or that of the interrupt
 */
export async function printAllEvents(
  client: BoxRunClient,
  box: string,
  { json, sinceMs }: { readonly json: boolean; readonly sinceMs: number | null },
  interrupt: Interrupt,
): Promise<number> {
  const { signal } = interrupt;
  try {
    const wanted: Exec[] = [];
    for await (const exec of client.eachExec(box, {}, { signal })) {
      if (sinceMs !== null && Date.parse(exec.created_at) < sinceMs) break; // The others began earlier.
      wanted.push(exec);
    }
    for (const exec of wanted.reverse()) {
      if (!json)
        process.stderr.write(`==> ${exec.id}, ${exec.created_at}: ${withoutControls(renderCommand(exec.cmd))}\n`);
      for await (const event of client.execEvents(exec, { follow: false, signal })) {
        if (json) await printLine({ exec_id: exec.id, ...jsonOf(event) }, signal);
        else if (event.type === 'log')
          await passOn(event.stream === 'stdout' ? process.stdout : process.stderr, event.bytes, signal);
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  return signal.aborted ? interrupt.exitCode() : 0;
}

async function printLine(value: object, signal: AbortSignal): Promise<void> {
  await passOn(process.stdout, Buffer.from(`${JSON.stringify(value)}\n`), signal);
}

/**
 * Prints the last lines of the output that exists now. It keeps no more of the output than these lines.
 * @returns the number of the last event, for the events that follow, and whether the command has ended
 */
async function printTail(
  client: BoxRunClient,
  exec: Exec,
  lines: number,
  signal: AbortSignal,
): Promise<{ readonly last: number; readonly isOver: boolean }> {
  let kept: { readonly stream: 'stdout' | 'stderr'; readonly bytes: Uint8Array; readonly newlines: number }[] = [];
  let newlines = 0;
  let size = 0;
  let last = -1;
  let isOver = false;
  for await (const event of client.execEvents(exec, { follow: false, signal })) {
    last = event.seq;
    if (event.type === 'exit') {
      isOver = true;
      continue;
    }
    const count = newlinesIn(event.bytes);
    kept.push({ stream: event.stream, bytes: event.bytes, newlines: count });
    newlines += count;
    size += event.bytes.length;
    // One newline more than wanted: the last one may end the output.
    while (kept.length > 1 && (newlines - (kept[0]?.newlines ?? 0) > lines || size > tailBytesMax)) {
      const oldest = kept.shift();
      newlines -= oldest?.newlines ?? 0;
      size -= oldest?.bytes.length ?? 0;
    }
  }
  const endsWithNewline = kept.at(-1)?.bytes.at(-1) === newline;
  let surplus = newlines + (endsWithNewline ? 0 : 1) - lines;
  if (lines === 0) kept = [];
  for (const { stream, bytes } of kept) {
    let from = 0;
    for (; surplus > 0 && from < bytes.length; from++) if (bytes[from] === newline) surplus--;
    const rest = bytes.subarray(from);
    if (rest.length > 0) await passOn(stream === 'stdout' ? process.stdout : process.stderr, rest, signal);
  }
  return { last, isOver };
}

const newline = 10;

function newlinesIn(bytes: Uint8Array): number {
  let count = 0;
  for (const byte of bytes) if (byte === newline) count++;
  return count;
}

function jsonOf(event: ExecEvent): object {
  if (event.type === 'exit') return { seq: event.seq, type: 'exit', exit_code: event.exitCode, error: event.error };
  return { seq: event.seq, type: 'log', stream: event.stream, data: event.text };
}
