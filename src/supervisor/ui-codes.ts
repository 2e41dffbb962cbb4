// The codes of one-time links to the dashboard. They are kept here because all gateways share one supervisor, so a code
// works only once, at any gateway. The codes are lost when this process ends; then the user asks for another link.
import { randomBytes } from 'node:crypto';
import { limits } from '../shared/limits.ts';

export interface UiCodes {
  /** A new code, which is valid for limits.uiCodeMs. */
  issue(): string;
  /** True if the code is valid. A code is valid only once. */
  redeem(code: string): boolean;
}

export function createUiCodes(now: () => number = Date.now): UiCodes {
  const expiries = new Map<string, number>();

  /** Removes expired codes, and the oldest ones until there is room for one more. */
  function removeOld(): void {
    for (const [code, expiry] of expiries)
      if (expiry <= now() || expiries.size >= limits.uiCodesMax) expiries.delete(code);
  }

  return {
    issue() {
      removeOld();
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
