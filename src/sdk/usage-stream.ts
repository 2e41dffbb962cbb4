// The stream of CPUs and memory that boxes reserve and use. It reconnects when the connection is lost.
// Its events have no ids: each connection begins with the whole history that the server has.
import type { UsageHistory, UsageUpdate } from '../shared/api.ts';
import type { BoxRunError } from '../shared/errors.ts';
import { readOn } from './messages.ts';
import type { Transport } from './transport.ts';

/** The samples of the last hour. It is the first event of each connection. */
export interface UsageHistoryEvent extends UsageHistory {
  readonly type: 'history';
}

/** One new sample. */
export interface UsageSampleEvent extends UsageUpdate {
  readonly type: 'sample';
}

export type UsageEvent = UsageHistoryEvent | UsageSampleEvent;

export interface UsageOptions {
  /**
   * Gives up after this number of attempts in a row without a single event; 12 (about 30 s) when absent. May be
   * Infinity. A connection that lasted more than 5 s begins the count anew.
   */
  readonly attemptsMax?: number | undefined;
  /** Called each time a connection fails or ends, before the next attempt. */
  readonly onLost?: ((error: BoxRunError) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** @throws CANCELED; UNAVAILABLE if the server stays away */
export function readUsage(transport: Transport, options: UsageOptions): AsyncGenerator<UsageEvent, void, void> {
  return readOn<UsageEvent>(transport, {
    ...options,
    path: () => '/v1/usage',
    name: () => 'the stream of resource usage',
    take({ event, data }) {
      if (event !== 'history' && event !== 'sample') return null; // An event type that only a newer server has.
      return { event: { type: event, ...(JSON.parse(data) as UsageHistory & UsageUpdate) }, isLast: false };
    },
  });
}
