// What boxes reserve and use, as it goes on, over as many connections as it takes. Called by client.ts.
// Without ids: every connection begins with all that the server remembers.
import type { UsageHistory, UsageUpdate } from '../shared/api.ts';
import type { BoxRunError } from '../shared/errors.ts';
import { readOn } from './messages.ts';
import type { Transport } from './transport.ts';

/** The last hour as the server remembers it; comes first, and again on every new connection. */
export interface UsageHistoryEvent extends UsageHistory {
  readonly type: 'history';
}

/** One more moment. */
export interface UsageSampleEvent extends UsageUpdate {
  readonly type: 'sample';
}

export type UsageEvent = UsageHistoryEvent | UsageSampleEvent;

export interface UsageOptions {
  /**
   * Given up after so many connections in a row that did not come about; 12 (half a minute) when absent. May be
   * Infinity.
   */
  readonly attemptsMax?: number | undefined;
  /** Told whenever there is no connection, before the next try. */
  readonly onLost?: ((error: BoxRunError) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** @throws CANCELED; UNAVAILABLE when the server stays away */
export function readUsage(transport: Transport, options: UsageOptions): AsyncGenerator<UsageEvent, void, void> {
  return readOn<UsageEvent>(transport, {
    ...options,
    path: () => '/v1/usage',
    name: () => 'the stream of what boxes use',
    take({ event, data }) {
      if (event !== 'history' && event !== 'sample') return null; // Of a newer server.
      return { event: { type: event, ...(JSON.parse(data) as UsageHistory & UsageUpdate) }, isLast: false };
    },
  });
}
