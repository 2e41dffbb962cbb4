// The codes of one-time links, to the dashboard and to ports of boxes. They are kept here because all gateways share
// one supervisor, so a code works only once, at any gateway. The codes are lost when this process ends; then the user
// asks for another link.
import { randomBytes } from 'node:crypto';
import { limits } from '../shared/limits.ts';

export interface UiCodes {
  /** A new code, which is valid for limits.uiCodeMs. */
  issue(purpose?: string): string;
  /** True if the code is valid for this purpose. A code is valid only once. Absent: the dashboard. */
  redeem(code: string, purpose?: string): boolean;
}

export function createUiCodes(now: () => number = Date.now): UiCodes {
  const expiries = new Map<string, { readonly expiry: number; readonly purpose: string }>();

  /** Removes expired codes, and the oldest ones until there is room for one more. */
  function removeOld(): void {
    for (const [code, { expiry }] of expiries)
      if (expiry <= now() || expiries.size >= limits.uiCodesMax) expiries.delete(code);
  }

  return {
    issue(purpose = '') {
      removeOld();
      const code = randomBytes(24).toString('base64url');
      expiries.set(code, { expiry: now() + limits.uiCodeMs, purpose });
      return code;
    },
    redeem(code, purpose = '') {
      const found = expiries.get(code);
      return expiries.delete(code) && found !== undefined && found.purpose === purpose && found.expiry > now();
    },
  };
}
