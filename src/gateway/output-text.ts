// Collected output of one stream, as text, up to a bound; what is beyond it is cut, and the text says so.
// Used by /v1/run only; a character is never cut in half.

export interface OutputText {
  add(bytes: Uint8Array): void;
  text(): string;
  /** Beyond the bound. */
  readonly lostBytes: number;
}

export function createOutputText(bytesMax: number): OutputText {
  const pieces: Uint8Array[] = [];
  let keptBytes = 0;
  let lostBytes = 0;
  return {
    add(bytes) {
      const kept = bytes.subarray(0, bytesMax - keptBytes);
      if (kept.length > 0) pieces.push(kept);
      keptBytes += kept.length;
      lostBytes += bytes.length - kept.length;
    },
    text() {
      const text = Buffer.concat(pieces).toString('utf8');
      return lostBytes > 0 ? `${text}\n[boxrun: output cut after ${bytesMax} bytes]\n` : text;
    },
    get lostBytes() {
      return lostBytes;
    },
  };
}
