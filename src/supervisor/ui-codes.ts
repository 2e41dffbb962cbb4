// The codes of one-time links to the dashboard: handed out to who may command the server, and taken back once, here,
// where there is one process for all gateways. They are gone with this process; the user asks for another link. Called
// by control.ts for gateways.
import { randomBytes } from 'node:crypto';
import { limits } from '../shared/limits.ts';

export interface UiCodes {
  /** A code that is good for limits.uiCodeMs. */
  issue(): string;
  /** True once for each code that was issued, in its time. */
  redeem(code: string): boolean;
}

export function createUiCodes(now: () => number = Date.now): UiCodes {
  const expiries = new Map<string, number>();

  function dropOld(): void {
    for (const [code, expiry] of expiries)
      if (expiry <= now() || expiries.size >= limits.uiCodesMax) expiries.delete(code);
  }

  return {
    issue() {
      dropOld();
      const code = randomBytes(24).toString('base64url');
      expiries.set(code, now() + limits.uiCodeMs);
      return code;
    },
    redeem(code) {
      const expiry = expiries.get(code);
      return expiries.delete(code) && expiry !== undefined && expiry > now();
    },
  };
}
