// Text that cannot be passed on as it is: bytes that are no UTF-8, and halves of surrogate pairs, which JSON can write
// and UTF-8 cannot. Node would put U+FFFD in their place; so they are refused, with where they stand.
import { isUtf8 } from 'node:buffer';
import { BoxRunError } from '../../shared/errors.ts';

/** The text of a body. @throws VALIDATION_ERROR */
export function utf8Text(bytes: Buffer, what: string): string {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  throw new BoxRunError('VALIDATION_ERROR', `${what} is not UTF-8`, { hint: 'send text in UTF-8' });
}

/** Escapes of surrogates, whole pairs too. */
const surrogateEscape = /\\u[dD][89a-fA-F]/;
const loneSurrogate = /\p{Surrogate}/u;

/** What is wrong with a body in JSON and its value: VALIDATION_ERROR naming the field, or null. */
export function surrogateProblem(json: string, value: unknown): BoxRunError | null {
  if (!surrogateEscape.test(json)) return null;
  const path = loneSurrogateIn(value, []);
  if (path === null) return null;
  return new BoxRunError(
    'VALIDATION_ERROR',
    `'${path.join('.')}' has half of a surrogate pair, which is no character`,
    {
      hint: 'send text that UTF-8 can write',
    },
  );
}

function loneSurrogateIn(value: unknown, path: readonly string[]): readonly string[] | null {
  if (typeof value === 'string') return loneSurrogate.test(value) ? path : null;
  if (typeof value !== 'object' || value === null) return null;
  for (const [name, each] of Object.entries(value)) {
    if (loneSurrogate.test(name)) return path.length === 0 ? ['the name of a field'] : path;
    const found = loneSurrogateIn(each, [...path, name]);
    if (found !== null) return found;
  }
  return null;
}

/** The address of a request: visible ASCII, and percent signs that stand for UTF-8. @throws VALIDATION_ERROR */
export function checkAddress(url: string): void {
  if (/^[!-~]*$/.test(url) && (!url.includes('%') || isEncodedUtf8(url))) return;
  throw badAddress();
}

export function badAddress(): BoxRunError {
  return new BoxRunError('VALIDATION_ERROR', 'the address of the request is not UTF-8', {
    status: 400,
    hint: 'write names in it in UTF-8, and each byte that is not ASCII as %XX',
  });
}

function isEncodedUtf8(url: string): boolean {
  try {
    decodeURIComponent(url);
    return true;
  } catch {
    return false;
  }
}
