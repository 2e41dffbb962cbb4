// How many bytes clients make this process hold at once: bodies that come in, answers that are not read. One client has
// half of it at most, so that it takes nothing from the others. Asked before the bytes are held.
import { BoxRunError } from '../../shared/errors.ts';

export interface Budget {
  /**
   * Takes `bytes` for a client, and gives the function that gives them back. A client that holds nothing gets its
   * bytes, however many they are.
   * @throws TOO_MANY_REQUESTS
   */
  take(client: string, bytes: number): () => void;
  /** As `take`, where a refusal comes too late. */
  note(client: string, bytes: number): () => void;
  /** As `take`, but waits until there is room, or until `over` aborts. */
  wait(client: string, bytes: number, over: AbortSignal): Promise<() => void>;
}

/** Who a client is: its address. Everyone at the Unix socket is one. */
export function clientOf({ remoteAddress }: { readonly remoteAddress?: string | undefined }): string {
  return remoteAddress ?? 'local';
}

/** @param what the client has too much of, for the refusal */
export function createBudget(bytesMax: number, what: string): Budget {
  const held = new Map<string, number>();
  let all = 0;
  let waiting: (() => void)[] = [];

  function fits(client: string, bytes: number): boolean {
    const own = held.get(client) ?? 0;
    return own === 0 || (own + bytes <= bytesMax / 2 && all + bytes <= bytesMax);
  }

  function note(client: string, bytes: number): () => void {
    all += bytes;
    held.set(client, (held.get(client) ?? 0) + bytes);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      all -= bytes;
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
    async wait(client, bytes, over) {
      while (!fits(client, bytes) && !over.aborted) {
        let wake = () => {};
        await new Promise<void>((resolve) => {
          waiting.push((wake = resolve));
          over.addEventListener('abort', wake, { once: true });
        });
        over.removeEventListener('abort', wake);
        waiting = waiting.filter((each) => each !== wake);
      }
      return note(client, bytes);
    },
  };
}
