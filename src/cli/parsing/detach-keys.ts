// The detach keys: the key sequence that leaves a terminal. This file has no side effects: bytes in, bytes out. A typed
// key that may begin the sequence is held back until the next key or `flush`. If the sequence does not go on, it is
// passed on unchanged.
import { UsageError } from './options.ts';

/** The same as the default of docker. */
export const defaultDetachKeys = 'ctrl-p,ctrl-q';

/** After this time a held key is passed on, because the program in the box may wait for exactly that key. */
export const detachWaitMs = 500;

export interface DetachKeys {
  /**
   * Takes the keys of one read. Gives the bytes to send to the box, and whether the detach sequence is complete.
   * Keys after a complete sequence are thrown away.
   */
  take(typed: Uint8Array): { readonly bytes: Uint8Array; readonly isDetach: boolean };
  /** Gives the held keys, and holds none afterwards. */
  flush(): Uint8Array;
}

/**
 * Reads the value of --detach-keys. The form is that of docker.
 * @param text keys separated by commas: a character, or `ctrl-` with a letter or one of `@[\]^_`
 * @returns the bytes that the keys send; none for an empty text: then no keys detach
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
  let held: number[] = [];
  const isBeginning = () => held.every((key, index) => key === sequence[index]);
  return {
    take(typed) {
      const bytes: number[] = [];
      for (const key of typed) {
        held.push(key);
        while (!isBeginning()) bytes.push(held.shift() as number);
        if (sequence.length > 0 && held.length === sequence.length)
          return { bytes: Uint8Array.from(bytes), isDetach: true };
      }
      return { bytes: Uint8Array.from(bytes), isDetach: false };
    },
    flush() {
      const bytes = Uint8Array.from(held);
      held = [];
      return bytes;
    },
  };
}
