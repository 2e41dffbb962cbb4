// A connection to a port of a box, as a stream of Node. Its bytes go over a stream to the worker of the box. It stands
// when it is returned. Both directions end by themselves; `destroy` breaks the connection off.
import { Duplex } from 'node:stream';
import { BoxRunError } from '../../shared/errors.ts';
import type { ByteStream } from '../../shared/ipc/stream.ts';
import { nextReport, openWorkerStream, reasonOfBreak } from '../live/worker-stream.ts';
import type { GatewayParts } from '../parts.ts';

export interface PortAddress {
  /** Id or name of the box. */
  readonly box: string;
  readonly port: number;
  /** An address of the box. Null: its loopback addresses. */
  readonly host: string | null;
}

/**
 * @throws BOX_NOT_FOUND, BOX_NOT_RUNNING, PORT_NOT_OPEN, TOO_MANY_REQUESTS, VALIDATION_ERROR, RUNTIME_ERROR, TIMEOUT,
 *   UNAVAILABLE
 */
export async function openPort(
  parts: Pick<GatewayParts, 'supervisor' | 'meters'>,
  { box, port, host }: PortAddress,
): Promise<Duplex> {
  const operation = { kind: 'port', port, host } as const;
  const stream = await openWorkerStream(parts, box, operation);
  try {
    await nextReport(stream, 'connected');
  } catch (error) {
    stream.close();
    throw await reasonOfBreak(parts, box, operation, error);
  }
  const connection = new PortStream(stream);
  connection.once('close', parts.meters.portConnection());
  return connection;
}

/** The part of a URL, as a number. @throws VALIDATION_ERROR */
export function portOf(text: string): number {
  const port = /^[1-9]\d{0,4}$/.test(text) ? Number(text) : 0;
  if (port >= 1 && port <= 65_535) return port;
  throw new BoxRunError('VALIDATION_ERROR', `'${text}' is no port`, { hint: 'a port is a number from 1 to 65535' });
}

class PortStream extends Duplex {
  readonly #stream: ByteStream;
  #isReading = false;

  constructor(stream: ByteStream) {
    super({ allowHalfOpen: true });
    this.#stream = stream;
  }

  override _read(): void {
    if (!this.#isReading) void this.#readOn();
  }

  async #readOn(): Promise<void> {
    this.#isReading = true;
    try {
      for (;;) {
        const item = await this.#stream.next();
        if (item !== null && !('bytes' in item)) continue;
        if (!this.push(item === null ? null : item.bytes) || item === null) break;
      }
    } catch (error) {
      this.destroy(error as Error);
    }
    this.#isReading = false;
  }

  override _write(piece: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#stream.send(piece).then(
      () => {
        done();
      },
      (error: unknown) => {
        // What still comes counts, and the reader gets the reason. If it has ended already, there is no other place.
        if (this.readableEnded) done(error as Error);
        else
          this.once('close', () => {
            done();
          });
      },
    );
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#stream.end().then(() => {
      done();
    }, done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    // After a clean end, everything that was sent must still arrive.
    if (error === null && this.readableEnded && this.writableFinished) this.#stream.finish();
    else this.#stream.close();
    done(error);
  }
}
