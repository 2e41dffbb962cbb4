// Refuses text that the gateway could not pass on unchanged: bytes that are not UTF-8, and halves of surrogate pairs,
// which JSON can write but UTF-8 cannot. Node would silently replace them with U+FFFD. The error says where they are.
import { isUtf8 } from 'node:buffer';
import { BoxRunError } from '../../shared/errors.ts';

/**
 * The bytes as text.
 * @param what names the bytes in the error message
 * @throws VALIDATION_ERROR when they are not UTF-8
 */
export function utf8Text(bytes: Buffer, what: string): string {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  throw new BoxRunError('VALIDATION_ERROR', `${what} is not UTF-8`, { hint: 'send text in UTF-8' });
}

/** Matches the JSON escape of a surrogate, also in a complete pair. */
const surrogateEscape = /\\u[dD][89a-fA-F]/;
const loneSurrogate = /\p{Surrogate}/u;

/**
 * Looks for half of a surrogate pair in a JSON body. Gives the VALIDATION_ERROR, which names the field, or null.
 * @param value the parsed value of `json`
 */
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

/** Checks that an address is visible ASCII and that its percent codes are UTF-8. @throws VALIDATION_ERROR */
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
