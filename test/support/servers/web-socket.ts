// A WebSocket client for tests of terminals. It collects the output as text and the control messages, and can wait for
// a text.
import { once } from 'node:events';
import { WebSocket, type RawData } from 'ws';
import { eventually } from '../runs/eventually.ts';

export interface TestSocket {
  readonly socket: WebSocket;
  /** Returns the bytes of all binary frames since the last `until`, as text. */
  text(): string;
  /** The control messages (text frames), parsed. */
  readonly controls: Record<string, unknown>[];
  /** Sends bytes, as typed in the terminal. */
  type(input: string | Buffer): void;
  /** Sends a control message. */
  control(value: unknown): void;
  /** Waits until the text matches `pattern`. Removes the text up to the end of the match. */
  until(pattern: RegExp, timeoutMs?: number): Promise<string>;
  /** Resolves with the close code. */
  readonly closed: Promise<number>;
}

export async function openSocket(
  url: string,
  options: { readonly headers?: Record<string, string> } = {},
): Promise<TestSocket> {
  const socket = new WebSocket(url, options);
  const controls: Record<string, unknown>[] = [];
  let pieces: Buffer[] = [];
  const text = () => Buffer.concat(pieces).toString();
  socket.on('message', (data: RawData, isBinary) => {
    if (isBinary) pieces.push(data as Buffer);
    else controls.push(JSON.parse((data as Buffer).toString()) as Record<string, unknown>);
  });
  const closed = new Promise<number>((resolve) => {
    socket.once('close', resolve);
  });
  await once(socket, 'open');
  return {
    socket,
    controls,
    closed,
    text,
    type: (input) => {
      socket.send(Buffer.from(input));
    },
    control: (value) => {
      socket.send(JSON.stringify(value));
    },
    async until(pattern, timeoutMs = 10_000) {
      const found = await eventually(
        `${String(pattern)} in a terminal`,
        async () => {
          const said = text();
          const match = pattern.exec(said);
          return match === null ? null : { match, said };
        },
        timeoutMs,
      ).catch((error: unknown) => {
        throw new Error(`it shows ${JSON.stringify(text().slice(-500))} and says ${JSON.stringify(controls)}`, {
          cause: error,
        });
      });
      pieces = [Buffer.from(found.said.slice(found.match.index + found.match[0].length))];
      return found.match[0];
    },
  };
}
