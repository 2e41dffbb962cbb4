// Which output of a detachable terminal the database keeps: the newest part. It is counted in chunks, and the oldest
// chunk is removed as a whole. So the terminal can go on for ever, and each removal is small.

/** A chunk is full with so many bytes or events. */
const chunkBytes = 256 * 1024;
const chunkEvents = 4_096;
/** The database keeps so many full chunks, and the one that grows. Then the oldest chunk is removed. */
const chunksMax = 16;

export interface KeptOutput {
  /** Counts one output event. The numbers (`seq`) must rise. */
  add(seq: number, bytes: number): void;
}

interface Chunk {
  /** The number of its last event. */
  lastSeq: number;
  bytes: number;
  events: number;
}

/**
 * @param firstSeq the seq of the next event. For a command of an earlier worker, the events before it are one chunk
 * @param removeBefore called when the events before this seq are to be removed
 */
export function createKeptOutput(firstSeq: number, removeBefore: (seq: number) => void): KeptOutput {
  const chunks: Chunk[] = firstSeq === 0 ? [] : [{ lastSeq: firstSeq - 1, bytes: 0, events: 0 }];
  let open: Chunk | null = null;
  return {
    add(seq, bytes) {
      open ??= { lastSeq: seq, bytes: 0, events: 0 };
      open.lastSeq = seq;
      open.bytes += bytes;
      open.events += 1;
      if (open.bytes < chunkBytes && open.events < chunkEvents) return;
      chunks.push(open);
      open = null;
      const oldest = chunks.length > chunksMax ? chunks.shift() : undefined;
      if (oldest !== undefined) removeBefore(oldest.lastSeq + 1);
    },
  };
}
