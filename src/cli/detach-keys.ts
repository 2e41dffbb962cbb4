// The keys that leave a terminal: Ctrl-P, then Ctrl-Q. Pure: bytes in, bytes out. Used by terminal.ts.
// A Ctrl-P waits for the key after it, and goes on together with that one when it is another.

const ctrlP = 0x10;
const ctrlQ = 0x11;

export interface DetachKeys {
  /** What of `typed` is for the box, and whether it ends in the detach keys; what stands behind those is dropped. */
  take(typed: Uint8Array): { readonly bytes: Uint8Array; readonly isDetach: boolean };
}

export function createDetachKeys(): DetachKeys {
  let isWaiting = false;
  return {
    take(typed) {
      const bytes: number[] = [];
      for (const key of typed) {
        if (isWaiting && key === ctrlQ) return { bytes: Uint8Array.from(bytes), isDetach: true };
        if (isWaiting) bytes.push(ctrlP);
        isWaiting = key === ctrlP;
        if (!isWaiting) bytes.push(key);
      }
      return { bytes: Uint8Array.from(bytes), isDetach: false };
    },
  };
}
