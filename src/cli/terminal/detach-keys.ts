// The keys that leave a terminal. Pure: bytes in, bytes out.
// What may be the beginning of the keys waits for the next key, or for `flush`, and then goes on unchanged.
import { UsageError } from '../parsing/options.ts';

/** As docker has it. */
export const defaultDetachKeys = 'ctrl-p,ctrl-q';

/**
 * A key that waits for the next one is passed on after this time: the program in the box may wait for just that key.
 */
export const detachWaitMs = 500;

export interface DetachKeys {
  /** What of `typed` is for the box, and whether it ends in the detach keys. What stands behind those is dropped. */
  take(typed: Uint8Array): { readonly bytes: Uint8Array; readonly isDetach: boolean };
  /** The keys that wait; nothing waits afterwards. */
  flush(): Uint8Array;
}

/**
 * @param text keys separated by commas, as docker takes them: a character, or `ctrl-` with a letter or one of `@[\]^_`
 * @returns the bytes that the keys send; empty text means that no keys detach
 * @throws UsageError
 */
export function parseDetachKeys(text: string): readonly number[] {
  if (text === '') return [];
  return text.split(',').map((key) => {
    const [, control] = /^ctrl-([a-z@[\\\]^_])$/i.exec(key) ?? [];
    if (control !== undefined) return control.toUpperCase().charCodeAt(0) - 0x40;
    if (/^[\x20-\x7e]$/.test(key)) return key.charCodeAt(0);
    throw new UsageError(`--detach-keys: ${key} is not a key; give keys like a, ctrl-p or ctrl-], separated by commas`);
  });
}

export function createDetachKeys(sequence: readonly number[]): DetachKeys {
  let waiting: number[] = [];
  const isBeginning = () => waiting.every((key, index) => key === sequence[index]);
  return {
    take(typed) {
      const bytes: number[] = [];
      for (const key of typed) {
        waiting.push(key);
        while (!isBeginning()) bytes.push(waiting.shift() as number);
        if (sequence.length > 0 && waiting.length === sequence.length)
          return { bytes: Uint8Array.from(bytes), isDetach: true };
      }
      return { bytes: Uint8Array.from(bytes), isDetach: false };
    },
    flush() {
      const bytes = Uint8Array.from(waiting);
      waiting = [];
      return bytes;
    },
  };
}
