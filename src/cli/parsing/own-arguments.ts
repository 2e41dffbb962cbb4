// Checks that the arguments of this process are UTF-8. Node puts U+FFFD in place of bytes that are not UTF-8. Such an
// argument would name another file or mean something else, so it is refused.
import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { notUtf8, replacementCharacter } from './options.ts';

/** @throws UsageError for a word whose bytes are not UTF-8 */
export function checkArguments(words: readonly string[]): void {
  if (!words.some((word) => word.includes(replacementCharacter))) return;
  // The last words are ours. Before them come Node, its own arguments and the program file.
  const ownArguments = argumentsAsBytes().slice(-words.length);
  for (const bytes of ownArguments) if (!isUtf8(bytes)) throw notUtf8('an argument', bytes);
}

/** All arguments of this process. NUL ends each of them in /proc/self/cmdline; source: proc(5). */
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
