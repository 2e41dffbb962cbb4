// Reads the output of a command from its first byte, as lines, as long as a component uses it. The SDK reconnects when
// a connection is lost. Each stream has its own decoder, so that a character in two pieces is decoded correctly.
import { useEffect, useMemo, useReducer, useState } from 'preact/hooks';
import type { ExecEvent } from '../../sdk/browser.ts';
import { boxrun } from '../live/client.ts';
import { createLogLines, type LogLines, type StreamName } from './log-lines.ts';

export interface ExecOutput {
  readonly lines: LogLines;
  /** Changes each time new output has come. */
  readonly version: number;
  /** True after the exit event. It stays false if the stream failed: then `error` has the reason. */
  readonly isEnded: boolean;
  readonly error: unknown;
}

export function useExecOutput(boxId: string, execId: string): ExecOutput {
  const lines = useMemo(() => createLogLines(), [boxId, execId]);
  const [version, advance] = useReducer((count: number) => count + 1, 0);
  const [isEnded, setEnded] = useState(false);
  const [error, setError] = useState<unknown>(null);

  useEffect(() => {
    const unmounted = new AbortController();
    let frame: number | null = null;
    const show = (): void => {
      frame ??= requestAnimationFrame(() => {
        frame = null;
        advance(0);
      });
    };
    setEnded(false);
    setError(null);
    const events = boxrun.execEvents({ id: execId, box_id: boxId }, { signal: unmounted.signal });
    readInto(lines, events, show).then(
      () => {
        setEnded(true);
      },
      (problem: unknown) => {
        if (unmounted.signal.aborted) return;
        lines.end();
        show();
        setError(problem);
      },
    );
    return () => {
      unmounted.abort();
      if (frame !== null) cancelAnimationFrame(frame);
    };
  }, [lines, boxId, execId]);

  return { lines, version, isEnded, error };
}

/** Adds the output of `events` to `lines` until the command ends. @param show called after each change of `lines` */
export async function readInto(lines: LogLines, events: AsyncIterable<ExecEvent>, show: () => void): Promise<void> {
  const decoders: Record<StreamName, TextDecoder> = { stdout: new TextDecoder(), stderr: new TextDecoder() };
  for await (const event of events) {
    if (event.type === 'exit') break;
    lines.append(event.stream, decoders[event.stream].decode(event.bytes, { stream: true }));
    show();
  }
  for (const stream of ['stdout', 'stderr'] as const) lines.append(stream, decoders[stream].decode());
  lines.end();
  show();
}
