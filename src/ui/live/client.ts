// The only client of the dashboard, and the texts of its errors. Every request goes through this client to the server
// that served the page.
import { BoxRun, BoxRunError } from '../../sdk/browser.ts';

export const boxrun = new BoxRun();

/** The texts of `error` for the user: the message, a hint, and the code of the catalogue. */
export function describeError(error: unknown): {
  readonly message: string;
  readonly hint: string | null;
  readonly code: string | null;
} {
  if (error instanceof BoxRunError) return { message: error.message, hint: error.hint ?? null, code: error.code };
  return { message: error instanceof Error ? error.message : String(error), hint: null, code: null };
}

export function isCode(error: unknown, code: BoxRunError['code']): boolean {
  return error instanceof BoxRunError && error.code === code;
}
