// The one client of the page, and what is said of errors: everything goes through the SDK, to the server that the page
// came from. Nothing else of the page makes a request.
import { BoxRun, BoxRunError } from '../../sdk/browser.ts';

export const boxrun = new BoxRun();

/** What a person is told of `error`: the message, and what can be done about it. */
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
