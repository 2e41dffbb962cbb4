// The command line's words as bytes. Node makes text of them and puts U+FFFD where they are no UTF-8; such a word would
// name another file, or be another argument, so it is refused.
import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { notUtf8, replaced } from './options.ts';

/** @throws UsageError for a word that is not as it was written */
export function checkArguments(words: readonly string[]): void {
  if (!words.some((word) => word.includes(replaced))) return;
  // The program and its own arguments come before.
  const written = argumentsAsBytes().slice(-words.length);
  for (const bytes of written) if (!isUtf8(bytes)) throw notUtf8('an argument', bytes);
}

/** NUL ends each (proc(5)). */
function argumentsAsBytes(): Buffer[] {
  const all = readFileSync('/proc/self/cmdline');
  const found: Buffer[] = [];
  for (let from = 0; from < all.length;) {
    const end = all.indexOf(0, from);
    found.push(all.subarray(from, end));
    from = end + 1;
  }
  return found;
}
