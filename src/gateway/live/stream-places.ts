// How many event streams and WebSockets, or transfers of files, each client has open: past its share the next one is
// refused, so that no client takes every descriptor of the server. A client is an address; everyone at the Unix socket
// is one. Asked where streams are opened.
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

/** What a refusal says. */
export interface PlaceWords {
  readonly what: string;
  readonly hint: string;
}

const ofStreams: PlaceWords = {
  what: 'streams open',
  hint: 'close some, or raise --max-streams (BOXRUN_MAX_STREAMS) of the server',
};

/** @param placesMax of each client */
export function createStreamPlaces(placesMax: number, { what, hint }: PlaceWords = ofStreams): StreamPlaces {
  const taken = new Map<string, number>();
  return {
    take(connection) {
      if (connection.destroyed) return; // It is closed, and will not say so again.
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
