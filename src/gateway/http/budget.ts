// A budget for the bytes that this process holds for its clients, such as request bodies and unread answers.
// One client can reserve at most half of the budget, so that the others get their share; only its first piece may be
// larger.
import { BoxRunError } from '../../shared/errors.ts';

export interface Budget {
  /**
   * Reserves `bytes` for a client and returns the function that releases them. A client that holds nothing always gets
   * its bytes, even if they are more than the budget.
   * @throws TOO_MANY_REQUESTS
   */
  take(client: string, bytes: number): () => void;
  /** As `take`, but never refuses: for bytes that this process holds in any case. */
  note(client: string, bytes: number): () => void;
  /** As `take`, but waits until there is room. When `signal` aborts, it stops waiting and reserves the bytes anyway. */
  wait(client: string, bytes: number, signal: AbortSignal): Promise<() => void>;
}

/** The key of a client: its IP address. All connections to the Unix socket count as one client. */
export function clientOf({ remoteAddress }: { readonly remoteAddress?: string | undefined }): string {
  return remoteAddress ?? 'local';
}

/** @param what names in the error message what the client has too much of */
export function createBudget(bytesMax: number, what: string): Budget {
  const held = new Map<string, number>();
  let totalBytes = 0;
  let waiting: (() => void)[] = [];

  function fits(client: string, bytes: number): boolean {
    const own = held.get(client) ?? 0;
    return own === 0 || (own + bytes <= bytesMax / 2 && totalBytes + bytes <= bytesMax);
  }

  function note(client: string, bytes: number): () => void {
    totalBytes += bytes;
    held.set(client, (held.get(client) ?? 0) + bytes);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      totalBytes -= bytes;
      const left = (held.get(client) ?? 0) - bytes;
      if (left > 0) held.set(client, left);
      else held.delete(client);
      for (const wake of waiting.splice(0)) wake();
    };
  }

  return {
    note,
    take(client, bytes) {
      if (fits(client, bytes)) return note(client, bytes);
      throw new BoxRunError('TOO_MANY_REQUESTS', `this client has too much under way: ${what}`, {
        hint: 'read the answers, or send fewer requests at once',
      });
    },
    async wait(client, bytes, signal) {
      while (!fits(client, bytes) && !signal.aborted) {
        let wake = () => {};
        await new Promise<void>((resolve) => {
          waiting.push((wake = resolve));
          signal.addEventListener('abort', wake, { once: true });
        });
        signal.removeEventListener('abort', wake);
        waiting = waiting.filter((each) => each !== wake);
      }
      return note(client, bytes);
    },
  };
}
