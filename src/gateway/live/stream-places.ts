// Limits how many streams (event streams and WebSockets) or file transfers one client has open at the same time.
// Beyond the limit the next one is refused, so that one client cannot use all file descriptors of the server. A client
// is an IP address. All connections to the Unix socket count as one client.
import { BoxRunError } from '../../shared/errors.ts';

export interface StreamPlaces {
  /** Takes a place until the connection closes. @throws TOO_MANY_REQUESTS */
  take(connection: StreamConnection): void;
}

export interface StreamConnection {
  readonly remoteAddress?: string | undefined;
  readonly destroyed: boolean;
  once(event: 'close', listener: () => void): unknown;
}

/** The texts of the error message. */
export interface PlaceWords {
  readonly what: string;
  readonly hint: string;
}

const ofStreams: PlaceWords = {
  what: 'streams open',
  hint: 'close some, or raise --max-streams (BOXRUN_MAX_STREAMS) of the server',
};

/** @param placesMax the limit for each client */
export function createStreamPlaces(placesMax: number, { what, hint }: PlaceWords = ofStreams): StreamPlaces {
  const taken = new Map<string, number>();
  return {
    take(connection) {
      if (connection.destroyed) return; // Its 'close' event has passed already, so the place would never be released.
      const client = connection.remoteAddress ?? 'local';
      const count = taken.get(client) ?? 0;
      if (count >= placesMax) {
        throw new BoxRunError('TOO_MANY_REQUESTS', `this client has ${count} ${what} already`, { hint });
      }
      taken.set(client, count + 1);
      connection.once('close', () => {
        const left = (taken.get(client) ?? 1) - 1;
        if (left === 0) taken.delete(client);
        else taken.set(client, left);
      });
    },
  };
}
